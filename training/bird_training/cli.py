"""`medgrit`: train BiRD and measure it.

Parses arguments and shows numbers; the work is done by `recipe.py` and `validate.py`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bird_vlm.console import plain_errors, progress
from bird_vlm.errors import BirdError
from bird_vlm.outputs import check_writable, write_json

app = typer.Typer(
    help="Train BiRD on pictures with masks, and measure what it learned.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
TEST_FRACTION = 0.15

Source = Annotated[Path, typer.Argument(help="Folder in the SA-Med2D-20M layout.")]
Fraction = Annotated[
    float,
    typer.Option(min=0.01, max=0.9, help="Share of each dataset's cases that is held out."),
]


@app.command(epilog="medgrit train SA-Med2D-20M/ runs/mini --minutes 60")
@plain_errors
def train(
    source: Source,
    out: Annotated[Path, typer.Argument(help="Gets checkpoints and the trained model's folder.")],
    brain: Annotated[
        Path | None, typer.Option(help="A labelled brain scan whose slices join the training.")
    ] = None,
    brain_labels: Annotated[Path | None, typer.Option(help="Its label map.")] = None,
    brain_classes: Annotated[
        Path | None, typer.Option(help='JSON: {"17": "left_hippocampus", ...}')
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Stop after so long; the learning rate falls in time."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Stop after so many optimiser steps.")] = 12_000,
    batch: Annotated[int, typer.Option(min=1, help="Pictures per step.")] = 24,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="The highest one.")] = 1e-3,
    test_fraction: Fraction = TEST_FRACTION,
    start: Annotated[
        Path | None, typer.Option(help="A checkpoint or model folder to begin with.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in OUT.")] = False,
) -> None:
    """Train bird-mini from scratch on the training side of SOURCE."""
    if find_spec("accelerate") is None:
        raise BirdError("training needs more packages: pip install -e '.[training]'")
    from bird_training import recipe

    given = [value is not None for value in (brain, brain_labels, brain_classes)]
    if any(given) and not all(given):
        raise BirdError("brain: --brain, --brain-labels and --brain-classes go together")
    scan = (brain, brain_labels, recipe.read_classes(brain_classes)) if brain else None
    folder = recipe.train_mini(
        source,
        out,
        test_fraction=test_fraction,
        brain=scan,
        minutes=minutes,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        start=start,
        resume=resume,
    )
    print(folder)


@app.command(epilog="medgrit validate SA-Med2D-20M/ --model runs/mini/bird-mini")
@plain_errors
def validate(
    source: Source,
    model: Annotated[str, typer.Option(help="A shipped model's name, or a folder.")] = "bird-mini",
    test_fraction: Fraction = TEST_FRACTION,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the numbers here.")] = None,
) -> None:
    """Measure a model on the held-out cases of SOURCE, modality by modality."""
    from bird_training import validate as measures
    from bird_training.regions import Vocabulary
    from bird_training.sources.sa_med2d import read_sa_med2d
    from bird_training.splits import split_by_case
    from bird_vlm.engine import Engine

    if json:
        check_writable(json)
    records = read_sa_med2d(source)
    _, held_out = split_by_case(records, test_fraction)
    engine = Engine.load(model, device)
    with progress("pictures") as show:
        tallies = measures.validate(engine, held_out, Vocabulary(records), show)
    Console().print(_table(tallies, len(held_out)))
    if json:
        write_json(json, measures.report(tallies))


def _table(tallies: dict, pictures: int) -> Table:
    from bird_training.validate import RATES, macro_mean

    table = Table(title=f"{pictures} held-out pictures")
    for column in ("modality", "boxes", *RATES):
        table.add_column(column, justify="left" if column == "modality" else "right")
    for modality, tally in sorted(tallies.items()):
        shown = tally.rates()
        table.add_row(modality, str(tally.targets), *(_percent(shown[rate]) for rate in RATES))
    table.add_row(
        "mean", "", *(_percent(macro_mean(tallies, rate)) for rate in RATES), style="bold"
    )
    return table


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


if __name__ == "__main__":
    app()
