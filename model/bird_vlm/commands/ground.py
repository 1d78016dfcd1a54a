"""`bird ground`: find things by name, and write what was found."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bird_vlm import contract
from bird_vlm.commands.arguments import (
    Model,
    Plane,
    VolumePath,
    Window,
    level_width,
    read_scan,
    slice_range,
)
from bird_vlm.commands.running import loaded, runs_a_model
from bird_vlm.commands.unfinished import Unfinished
from bird_vlm.console import console, plain_errors, progress
from bird_vlm.errors import BirdError
from bird_vlm.outputs import check_writable, findings_table, write_json
from bird_vlm.running import Running

if TYPE_CHECKING:
    from bird_vlm.engine import Engine
    from bird_vlm.volumes import Volume

EPILOG = "bird ground ct.nii.gz --text liver --text spleen --json findings.json"


@plain_errors
@runs_a_model
def ground(
    volume: VolumePath,
    text: Annotated[list[str], typer.Option(help="What to look for; repeat for more.")],
    running: Running,
    plane: Plane = "axial",
    slices: Annotated[str | None, typer.Option(help="A:B, only slices A to B-1.")] = None,
    threshold: Annotated[
        float, typer.Option(help="Presence probability below which nothing is shown.")
    ] = 0.5,
    coarse: Annotated[
        bool,
        typer.Option("--coarse", help="Ask a few slices, then only where their answers differ."),
    ] = False,
    window: Window = None,
    model: Model = "bird-mini",
    json: Annotated[Path | None, typer.Option(help="Write findings and boxes here.")] = None,
    markups: Annotated[Path | None, typer.Option(help="Write Slicer ROIs (.mrk.json).")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture of the boxes.")] = None,
) -> None:
    """Find things by name: one box per slice, linked to findings in 3D."""
    request = contract.GroundingRequest(
        labels=tuple(text),
        plane=plane,
        slices=slice_range(slices),
        window=level_width(window),
        threshold=threshold,
        search="coarse-to-fine" if coarse else "exhaustive",
    )
    for path in filter(None, (json, markups, png)):
        check_writable(path)
    scan = read_scan(volume)
    with loaded(model, running) as engine:
        result = _grounded(engine, scan, request, json)
    Console().print(findings_table(result))
    if result.unreadable:
        console.print(f"{result.unreadable} answers were not in the language of boxes; left out")
    _write_outputs(scan, result, json, markups, png)


def _grounded(
    engine: Engine, scan: Volume, request: contract.GroundingRequest, json: Path | None
) -> contract.GroundingResult:
    unfinished = Unfinished(engine.card.id, scan, request)
    try:
        return _result(engine, scan, request, unfinished)
    except (BirdError, KeyboardInterrupt):
        if unfinished.done:
            console.print(unfinished.keep(json), markup=False, highlight=False, soft_wrap=True)
        raise


def _result(
    engine: Engine, scan: Volume, request: contract.GroundingRequest, unfinished: Unfinished
) -> contract.GroundingResult:
    from bird_vlm import volume as questions

    started = time.perf_counter()
    with progress("asking slices") as show:
        for event in questions.grounding_events(engine, scan, request):
            if isinstance(event, contract.GroundingResult):
                console.print(f"{time.perf_counter() - started:.1f} s on {engine.card.device}")
                return event
            unfinished.add(event)
            show(event.done, event.total)
    raise AssertionError("the last event of grounding is its result")


def _write_outputs(
    scan: Volume,
    result: contract.GroundingResult,
    json: Path | None,
    markups: Path | None,
    png: Path | None,
) -> None:
    from bird_vlm.markups import markups_json
    from bird_vlm.overlay import save_overlay

    if json:
        write_json(json, contract.to_json(result))
    if markups:
        write_json(markups, markups_json(result))
    if png:
        save_overlay(png, scan, result)
