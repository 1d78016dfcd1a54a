"""`bird refer` and `bird ask`: words about a box, or about a slice."""

from __future__ import annotations

from typing import Annotated

import typer

from bird_vlm.commands.arguments import (
    Model,
    Plane,
    VolumePath,
    Window,
    level_width,
    numbers,
    read_scan,
)
from bird_vlm.commands.running import loaded, runs_a_model
from bird_vlm.console import console, plain_errors
from bird_vlm.contract import AskingResult, ReferringRequest, ReferringResult
from bird_vlm.running import Running

REFER_EPILOG = "bird refer ct.nii.gz --box-ras 20,30,100,60,80,140"
ASK_EPILOG = 'bird ask ct.nii.gz --slice 40 "Which objects are visible in this image?"'


@plain_errors
@runs_a_model
def refer(
    volume: VolumePath,
    box_ras: Annotated[str, typer.Option(help="x0,y0,z0,x1,y1,z1: two opposite corners, RAS mm.")],
    running: Running,
    task: Annotated[str, typer.Option(help="roc: its name; rc: a description.")] = "roc",
    plane: Plane = "axial",
    window: Window = None,
    model: Model = "bird-mini",
) -> None:
    """Name or describe what a box holds."""
    from bird_vlm import volume as questions

    corners_ras = numbers("box-ras", box_ras, 6)
    request = ReferringRequest(corners_ras, task, plane, level_width(window))
    scan = read_scan(volume)
    with loaded(model, running) as engine:
        _tell(questions.refer(engine, scan, request))


@plain_errors
@runs_a_model
def ask(
    volume: VolumePath,
    question: Annotated[str, typer.Argument(help="Your question about the slice.")],
    running: Running,
    slice_index: Annotated[
        int | None, typer.Option("--slice", help="Which slice; the middle one by default.")
    ] = None,
    plane: Plane = "axial",
    window: Window = None,
    model: Model = "bird-mini",
) -> None:
    """Ask about one slice, or about a picture."""
    from bird_vlm import volume as questions

    shown = level_width(window)
    scan = read_scan(volume)
    with loaded(model, running) as engine:
        _tell(questions.ask(engine, scan, question, plane, slice_index, shown))


def _tell(answer: ReferringResult | AskingResult) -> None:
    print(answer.text)
    console.print(f"slice {answer.slice}, {answer.plane}; score {answer.score:.2f}")
