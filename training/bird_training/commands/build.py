"""`medgrit build`: pictures with masks -> Med-GRIT conversations."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from bird_training.building.build import build
from bird_training.building.merge import FILES, SIDES, SKIPPED_FILE
from bird_training.building.preview import preview_build
from bird_training.building.settings import SHEET_FILE, BuildSettings
from bird_training.building.sheet import write_sheet
from bird_training.sources.slicing import SUV
from bird_training.writers.options import WriterOptions
from bird_vlm.console import console, progress
from bird_vlm.contract import PLANES, check_plane
from bird_vlm.errors import BirdError
from bird_vlm.windows import CT_WINDOWS

EPILOG = (
    "medgrit build SA-Med2D-20M/ med-grit/ --limit 60000"
    "      |      medgrit build volumes/ out/ --plane axial --plane coronal"
    "      |      medgrit build SA-Med2D-20M/ out/ --writer llm "
    "--endpoint http://localhost:8000/v1 --model Qwen3-32B --dry-run"
)
_LLM = "Options of --writer llm"
_SPEED = "Speed"


def build_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="A folder in the layout of SA-Med2D-20M or of SAM-Med2D's demo; a folder with "
            'volumes.json, [{"image": "a.nii.gz", "labels": "a_labels.nii.gz", "modality": "ct", '
            '"classes": {"1": "liver"}, "dataset": "...", "case": "..."}]; or DICOM series with '
            "their DICOM segmentations.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Gets train/, test/ and images/.")],
    test_fraction: Annotated[
        float,
        typer.Option(min=0.01, max=0.9, help="Share of each data set's cases that is held out."),
    ] = 0.15,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Take so many pictures, even over modalities and objects, slices of a volume far "
            "apart first (the paper: 60000). All without it.",
        ),
    ] = None,
    slice_step: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep one of so many neighbouring slices of a case. Without it: all slices of a "
            "picture folder, one per 5 mm of a volume.",
        ),
    ] = None,
    plane: Annotated[
        list[str] | None, typer.Option(help="To cut volumes in; may be repeated. Axial without it.")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"To show volumes in: one of {', '.join(CT_WINDOWS)} for CT, or {SUV} for DICOM "
            "PET. Without it: soft tissue for CT, the grey values that occur for all else.",
        ),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="Of pictures whose layout does not tell it, e.g. ct.")
    ] = None,
    augment: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Add so many changed copies of each picture of train/, never of test/: scaled, "
            "shifted, in other grey values, and mirrored where left and right allow it. Boxes and "
            "words follow.",
        ),
    ] = 0,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy the pictures instead of linking to SRC.")
    ] = False,
    sheet: Annotated[
        bool, typer.Option(help="Write sheet.png: pictures, boxes and texts to look at.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Another one draws other questions and words.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Drop what a build left in OUT first.")
    ] = False,
    writer: Annotated[
        Literal["offline", "llm"],
        typer.Option(help="Who writes: sentences of our own, or a language model."),
    ] = "offline",
    absent_questions: Annotated[
        int, typer.Option(min=0, help="Per picture, for objects that are certainly not on it.")
    ] = 1,
    endpoint: Annotated[
        str,
        typer.Option(
            help="OpenAI-compatible address; $OPENAI_BASE_URL without it.", rich_help_panel=_LLM
        ),
    ] = "",
    model: Annotated[str, typer.Option(help="Its name there.", rich_help_panel=_LLM)] = "",
    key_variable: Annotated[
        str, typer.Option(help="Environment variable that holds the key.", rich_help_panel=_LLM)
    ] = "OPENAI_API_KEY",
    prompts: Annotated[
        Path | None, typer.Option(help="Folder of your own prompts.", rich_help_panel=_LLM)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Answers that were paid for; OUT/.answers.", rich_help_panel=_LLM),
    ] = None,
    tries: Annotated[
        int,
        typer.Option(min=1, help="For each text, before it is given up.", rich_help_panel=_LLM),
    ] = 3,
    on_refusal: Annotated[
        Literal["offline", "skip"],
        typer.Option(
            help="What becomes of texts that do not fit what is known.", rich_help_panel=_LLM
        ),
    ] = "offline",
    temperature: Annotated[float, typer.Option(min=0.0, rich_help_panel=_LLM)] = 0.7,
    extra: Annotated[
        str, typer.Option(help="JSON object added to each request.", rich_help_panel=_LLM)
    ] = "{}",
    concurrency: Annotated[
        int, typer.Option(min=1, help="Requests at a time.", rich_help_panel=_LLM)
    ] = 8,
    requests_per_minute: Annotated[float | None, typer.Option(rich_help_panel=_LLM)] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(rich_help_panel=_LLM)] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for one answer.", rich_help_panel=_LLM)
    ] = 120.0,
    attempts: Annotated[
        int,
        typer.Option(
            min=1, help="Per request, where the line or server fails.", rich_help_panel=_LLM
        ),
    ] = 5,
    price_in: Annotated[
        float | None, typer.Option(help="Per million tokens asked.", rich_help_panel=_LLM)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="Per million tokens answered.", rich_help_panel=_LLM)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would be asked and its cost; write and ask nothing."
        ),
    ] = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="local: processes here. ray: Ray Data, on the cluster of $RAY_ADDRESS if set; all "
            "machines must see SRC and OUT under the same paths. The output is the same.",
            rich_help_panel=_SPEED,
        ),
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="One per core without it.", rich_help_panel=_SPEED)
    ] = None,
) -> None:
    """Turn pictures with masks into Med-GRIT: questions and answers for VG, ROC, RC and MIA.

    OUT/train and OUT/test get one JSON list per task in the released format, with dialogues.json,
    captions.json and facts.jsonl (boxes and names). No case is on both sides, nor a near-duplicate
    of a picture, not even in another data set. What cannot be used is listed in OUT/skipped.jsonl.

    Ctrl-C loses nothing: the same command goes on.
    """
    options = WriterOptions(
        kind=writer,
        absent_questions=absent_questions,
        endpoint=endpoint,
        model=model,
        key_variable=key_variable,
        prompts=prompts,
        cache=cache or out / ".answers",
        tries=tries,
        on_refusal=on_refusal,
        temperature=temperature,
        extra=_extra(extra),
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        timeout_s=timeout,
        attempts=attempts,
        price_in=price_in,
        price_out=price_out,
    )
    settings = BuildSettings(
        source=source,
        writer=options,
        test_fraction=test_fraction,
        limit=limit,
        slice_step=slice_step,
        planes=_planes(plane),
        window=window,
        modality=modality,
        augment=augment,
        copy_images=copy_images,
        seed=seed,
    )
    if dry_run:
        print(preview_build(settings, progress))
        return
    workers = workers or os.cpu_count() or 1
    try:
        report = build(settings, out, progress, engine=engine, workers=workers, overwrite=overwrite)
    except KeyboardInterrupt:
        console.print(f"interrupted: the same command goes on with {out}")
        raise
    if sheet and not (out / SHEET_FILE).exists():
        write_sheet(out, out / SHEET_FILE)
    _show(report, out)


def _planes(given: list[str] | None) -> tuple[Any, ...]:
    for plane in given or ():
        check_plane(plane)
    return tuple(plane for plane in PLANES if plane in (given or ["axial"]))


def _extra(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise BirdError(f"extra: is not JSON ({error})") from error
    if not isinstance(told, dict):
        raise BirdError(f"extra: must be a JSON object, got {text}")
    return told


def _show(report: dict[str, Any], out: Path) -> None:
    """What was built, as a table."""
    sides = report["sides"]
    table = Table(title=str(out))
    table.add_column("")
    for side in SIDES:
        table.add_column(side, justify="right")
    modalities = sorted({m for side in SIDES for m in sides[side]["pictures"]})
    rows = [(m, [sides[side]["pictures"].get(m, 0) for side in SIDES]) for m in modalities]
    for name, counts in rows:
        table.add_row(f"{name} pictures", *(f"{count:,}" for count in counts))
    table.add_row("cases", *(f"{sides[side]['cases']:,}" for side in SIDES), end_section=True)
    for name in FILES:
        table.add_row(name, *(f"{sides[side]['entries'].get(name, 0):,}" for side in SIDES))
    absent = [sides[side]["absent_questions"] for side in SIDES]
    table.add_row("absent objects in VG", *(f"{count:,}" for count in absent))
    Console().print(table)
    taken = f"{report['taken']:,} of {report['found']:,} pictures taken"
    if copies := report["augmented"]:
        taken += f"; {copies:,} augmented copies in train"
    skipped = f"; {report['skipped']:,} skipped, see {out / SKIPPED_FILE}"
    console.print(taken + (skipped if report["skipped"] else ""), soft_wrap=True)
    if not sides["test"]["cases"]:
        console.print("note: too few cases to hold any out, so the test side is empty")
