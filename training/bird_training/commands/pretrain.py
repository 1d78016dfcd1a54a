"""`medgrit pretrain`: make bird-mini from pictures with masks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from bird_vlm.console import progress
from bird_vlm.errors import BirdError

TEST_FRACTION = 0.15
EPILOG = "medgrit pretrain SA-Med2D-20M/ runs/mini --minutes 60"


def pretrain(
    source: Annotated[Path, typer.Argument(help="Folder in the SA-Med2D-20M layout.")],
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
    test_fraction: Annotated[
        float,
        typer.Option(min=0.01, max=0.9, help="Share of each dataset's cases that is held out."),
    ] = TEST_FRACTION,
    data_fraction: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="Train on this share of the remaining cases only."),
    ] = 1.0,
    start: Annotated[
        Path | None, typer.Option(help="A checkpoint or model folder to begin with.")
    ] = None,
    stages: Annotated[
        str, typer.Option(help="Which to train; with --start, those that it has not been through.")
    ] = "see,speak,both",
    resume: Annotated[bool, typer.Option(help="Go on where the training in OUT stopped.")] = False,
) -> None:
    """Make bird-mini from scratch: learn to see from masks, then to speak of what is seen.

    The held-out cases are those that `medgrit build` with the same --test-fraction puts into
    OUT/test.
    """
    if find_spec("accelerate") is None:
        raise BirdError("training needs more packages: pip install -e '.[training]'")
    from bird_training.pretraining import recipe
    from bird_training.sources.labelled_volume import write_labelled_slices
    from bird_training.sources.sa_med2d import read_sa_med2d
    from bird_training.sources.volumes import read_classes
    from bird_training.splits import split_by_case
    from bird_training.twins import find_twins

    chosen = recipe.stages_called(stages.split(","))
    given = [value is not None for value in (brain, brain_labels, brain_classes)]
    if any(given) and not all(given):
        raise BirdError("brain: --brain, --brain-labels and --brain-classes go together")
    classes = read_classes(brain_classes) if brain_classes else {}
    records = read_sa_med2d(source)
    with progress("looking for near-duplicates") as show:
        twins = find_twins(records, on_picture=show)
    records, _ = split_by_case(records, test_fraction, twins)
    if data_fraction < 1:
        _, records = split_by_case(records, data_fraction, twins)
    if brain and brain_labels:
        records += write_labelled_slices(
            brain, brain_labels, classes, out / "slices", dataset="OASIS", modality="mr", copies=36
        )
    folder = recipe.train_mini(
        records,
        out,
        minutes=minutes,
        steps=steps,
        batch=batch,
        start=start,
        stages=chosen,
        resume=resume,
    )
    print(folder)
