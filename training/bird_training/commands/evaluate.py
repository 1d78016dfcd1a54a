"""`medgrit evaluate`: predictions in; numbers, tables and plots out.

Parses arguments and shows numbers; the work is done in `evaluation/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from bird_vlm.console import console
from bird_vlm.errors import BirdError
from bird_vlm.outputs import check_writable, write_json

if TYPE_CHECKING:
    from bird_training.evaluation.predictions import Prediction

EPILOG = "medgrit evaluate --predictions runs/mini/predictions --json numbers.json"


def evaluate(
    predictions: Annotated[
        list[str],
        typer.Option(help="Folder of VG, ROC, RC, MIA.jsonl, or NAME=FOLDER; may be repeated."),
    ],
    json: Annotated[Path | None, typer.Option(help="Write the numbers here.")] = None,
    tables: Annotated[
        Path | None, typer.Option(help="Folder for tables (Markdown, CSV) and plots.")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Add the published rows.")] = False,
    questions: Annotated[
        Path | None,
        typer.Option(help="LLaVA-Med question file that --predictions FILE.jsonl answers."),
    ] = None,
    by: Annotated[
        Literal["image", "case"], typer.Option(help="What the intervals draw again.")
    ] = "image",
    resamples: Annotated[int, typer.Option(min=0, help="Draws; 0 for no intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    clean: Annotated[
        Literal["authors", "markers"],
        typer.Option(help="authors: the paper's cuts; markers: the whole response."),
    ] = "authors",
    spice: Annotated[
        bool, typer.Option("--spice", help="Fetch SPICE's models (400 MB) where they lack.")
    ] = False,
) -> None:
    """Score predictions by the rules of the paper's own scripts, modality by modality."""
    from bird_training.evaluation import evaluate as measures
    from bird_training.evaluation.metrics import Reading
    from bird_training.evaluation.responses import clean_as_authors, clean_markers
    from bird_training.evaluation.scores import Resampling

    if json:
        check_writable(json)
    if tables and tables.exists() and not tables.is_dir():
        raise BirdError(f"tables: {tables} is a file; name a folder")
    settings = measures.Settings(
        Reading(clean_as_authors if clean == "authors" else clean_markers),
        Resampling(by, resamples, seed),
        fetch_spice=spice,
    )
    read = _read(predictions, questions)
    with console.status("") as status:
        found = measures.evaluate_models(
            {name: of_model for name, (of_model, _) in read.items()}, settings, status.update
        )
    reports = {name: found[name] | _origin(*of_model) for name, of_model in read.items()}
    _show(reports, paper)
    if json:
        write_json(json, next(iter(reports.values())) if len(reports) == 1 else {"models": reports})
    if tables:
        from bird_training.evaluation.tables_files import write_tables

        for path in write_tables(reports, tables, paper):
            console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


def _read(
    predictions: list[str], questions: Path | None
) -> dict[str, tuple[dict[str, list[Prediction]], dict]]:
    """Predictions by task, and what is known of their run, by model."""
    from bird_training.evaluation.predict import read_run
    from bird_training.evaluation.predictions import read_predictions
    from bird_training.evaluation.qa_sets import read_answers

    read = {}
    for given in predictions:
        name, path = named_folder(given)
        if name in read:
            raise BirdError(f"predictions: two are named {name!r}; tell them apart by NAME=FOLDER")
        if path.is_dir():
            read[name] = read_predictions(path), read_run(path)
        else:
            test_set = questions.stem if questions else ""
            read[name] = read_answers(path, questions), {"test_set": test_set}
    return read


def _origin(predictions: dict[str, list[Prediction]], run: dict) -> dict:
    """The test set's name, where it has one, and how much of it is answered."""
    from bird_training.evaluation.coverage import coverage

    name = str(run.get("test_set", ""))
    named = {"test_set": name} if name else {}
    return named | {"coverage": coverage(predictions, run.get("asked", {}))}


def named_folder(given: str) -> tuple[str, Path]:
    """The name and folder of NAME=FOLDER; a folder alone is named after itself.

    >>> named_folder("10%=runs/small")
    ('10%', PosixPath('runs/small'))
    """
    name, mark, folder = given.partition("=")
    if mark and not Path(given).exists():
        return name, Path(folder)
    return Path(given).resolve().name, Path(given)


def _show(reports: dict[str, dict], paper: bool) -> None:
    from bird_training.evaluation.coverage import gaps
    from bird_training.evaluation.tables import absence_by_modality, absence_table, table_1, table_3

    shown = [
        table
        for name, report in reports.items()
        for table in (table_3(report, name, paper), absence_by_modality(report, name))
        if table
    ]
    if len(reports) > 1 or paper:
        shown.append(table_1(reports, paper))
    if absent := absence_table(reports):
        shown.append(absent)
    terminal = Console()
    wide = terminal if terminal.is_terminal else Console(width=160)
    for table in shown:
        wide.print(table.rich())
    for reason in dict.fromkeys(
        [f"{n}: {gap}" for n, r in reports.items() for gap in gaps(r["coverage"])]
        + [
            f"{what} left out: {why}"
            for r in reports.values()
            for what, why in r["left_out"].items()
        ]
    ):
        console.print(reason, style="yellow", markup=False, highlight=False, soft_wrap=True)
