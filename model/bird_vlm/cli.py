"""`bird`: ask questions about a scan from the command line.

Parses arguments and shows answers; the work is done by `volume.py`, `checkpoints.py` and the
server. An error that the user can mend is one line and exit code 2.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bird_vlm import contract
from bird_vlm.commands.models import EPILOG as MODELS_EPILOG
from bird_vlm.commands.models import models
from bird_vlm.console import console, plain_errors, progress
from bird_vlm.errors import BadRequestError
from bird_vlm.outputs import check_writable, findings_table, write_json
from bird_vlm.running import Running
from bird_vlm.version import __version__

if TYPE_CHECKING:
    from bird_vlm.engine import Engine
    from bird_vlm.volumes import Volume

app = typer.Typer(
    help="Ask a scan where something is, and get boxes; give a box, and get its name.",
    epilog="Example: bird ground scan.nii.gz --text liver --text 'right kidney' --png boxes.png",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

VolumePath = Annotated[
    Path,
    typer.Argument(help="NIfTI, NRRD, MetaImage, DICOM file or folder; or a PNG or JPEG picture."),
]
Plane = Annotated[str, typer.Option(help="axial, coronal or sagittal: the volume's own axes.")]
Model = Annotated[str, typer.Option(help="A name of `bird models`, a model folder, or a hub id.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")]
Precision = Annotated[
    str, typer.Option(help="float32, bfloat16 or float16; auto: bfloat16 on cuda, else float32.")
]
Quantize = Annotated[
    str | None, typer.Option(help="int8 or int4 weights, for a card that is too small.")
]
Window = Annotated[
    str | None,
    typer.Option(help="LEVEL,WIDTH in the volume's units, or a CT preset such as lung."),
]


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print it and leave.")] = False):
    """The callback that holds `--version`."""
    if version:
        print(f"bird {__version__}")
        raise typer.Exit


@app.command(epilog="bird ground ct.nii.gz --text liver --text spleen --json findings.json")
@plain_errors
def ground(
    volume: VolumePath,
    text: Annotated[list[str], typer.Option(help="What to look for; repeat for more.")],
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
    device: Device = None,
    precision: Precision = "auto",
    quantize: Quantize = None,
    json: Annotated[Path | None, typer.Option(help="Write findings and boxes here.")] = None,
    markups: Annotated[Path | None, typer.Option(help="Write Slicer ROIs (.mrk.json).")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture of the boxes.")] = None,
) -> None:
    """Find things by name: one box per slice, linked to findings in 3D."""
    request = contract.GroundingRequest(
        labels=tuple(text),
        plane=plane,
        slices=_slice_range(slices),
        window=_window(window),
        threshold=threshold,
        search="coarse-to-fine" if coarse else "exhaustive",
    )
    running = Running(device, precision, quantize)
    for path in filter(None, (json, markups, png)):
        check_writable(path)
    scan = _read(volume)
    engine = _engine(model, running)
    result = _grounded(engine, scan, request)
    Console().print(findings_table(result))
    if result.unreadable:
        console.print(f"{result.unreadable} answers were not in the language of boxes; left out")
    _write_outputs(scan, result, json, markups, png)


@app.command(epilog="bird refer ct.nii.gz --box-ras 20,30,100,60,80,140")
@plain_errors
def refer(
    volume: VolumePath,
    box_ras: Annotated[str, typer.Option(help="x0,y0,z0,x1,y1,z1: two opposite corners, RAS mm.")],
    task: Annotated[str, typer.Option(help="roc: its name; rc: a description.")] = "roc",
    plane: Plane = "axial",
    window: Window = None,
    model: Model = "bird-mini",
    device: Device = None,
    precision: Precision = "auto",
    quantize: Quantize = None,
) -> None:
    """Name or describe what a box holds."""
    from bird_vlm import volume as questions

    running = Running(device, precision, quantize)
    request = contract.ReferringRequest(
        box_ras=_numbers("box-ras", box_ras, 6), task=task, plane=plane, window=_window(window)
    )
    scan = _read(volume)
    answer = questions.refer(_engine(model, running), scan, request)
    print(answer.text)
    console.print(f"slice {answer.slice}, {answer.plane}; score {answer.score:.2f}")


@app.command(epilog='bird ask ct.nii.gz --slice 40 "Which objects are visible in this image?"')
@plain_errors
def ask(
    volume: VolumePath,
    question: Annotated[str, typer.Argument(help="Your question about the slice.")],
    slice_index: Annotated[
        int | None, typer.Option("--slice", help="Which slice; the middle one by default.")
    ] = None,
    plane: Plane = "axial",
    window: Window = None,
    model: Model = "bird-mini",
    device: Device = None,
    precision: Precision = "auto",
    quantize: Quantize = None,
) -> None:
    """Ask about one slice, or about a picture."""
    from bird_vlm import volume as questions

    running, level_width = Running(device, precision, quantize), _window(window)
    scan = _read(volume)
    answer = questions.ask(_engine(model, running), scan, question, plane, slice_index, level_width)
    print(answer.text)
    console.print(f"slice {answer.slice}, {answer.plane}; score {answer.score:.2f}")


@app.command(epilog="bird convert Qwen-VL-Chat/ bird-from-qwen/")
@plain_errors
def convert(
    src: Annotated[
        Path, typer.Argument(help="An original Qwen-VL-Chat or BiRD checkpoint folder.")
    ],
    dst: Annotated[Path, typer.Argument(help="Folder to make; must not hold anything yet.")],
    back: Annotated[
        bool, typer.Option("--back", help="From ours back to the original names.")
    ] = False,
    layout: Annotated[str, typer.Option(help="With --back: qwen or paddle.")] = "qwen",
) -> None:
    """Turn an original checkpoint into a folder that transformers loads, bit for bit, or back."""
    from bird_vlm import checkpoints

    with progress("tensors") as show:
        if back:
            conversion = checkpoints.convert_back(src, dst, layout, show)
        else:
            conversion = checkpoints.convert(src, dst, show)
    print(f"{conversion.folder}: {conversion.tensors} tensors")
    for note in conversion.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


@app.command(epilog="bird serve --studies ~/studies")
@plain_errors
def serve(
    studies: Annotated[Path, typer.Option(help="Folder of images; made where absent.")] = Path(
        "studies"
    ),
    host: Annotated[str, typer.Option(help="Other than loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    model: Model = "bird-mini",
    device: Device = None,
    precision: Precision = "auto",
    quantize: Quantize = None,
    token: Annotated[
        str | None, typer.Option(envvar="BIRD_TOKEN", help="What clients must send.")
    ] = None,
) -> None:
    """Start the MONAI Label server with BiRD in it, for 3D Slicer."""
    command = [sys.executable, "-m", "bird_server", "--studies", str(studies), "--host", host]
    command += ["--port", str(port), "--model", model, "--precision", precision]
    command += [*(("--device", device) if device else ())]
    command += [*(("--quantize", quantize) if quantize else ())]
    environment = {**os.environ, "BIRD_TOKEN": token or ""}
    if os.name == "posix":  # the server takes this process's place, and its signals
        os.execve(command[0], command, environment)
    raise typer.Exit(subprocess.run(command, check=False, env=environment).returncode)


app.command(epilog=MODELS_EPILOG)(models)


def _read(path: Path) -> Volume:
    from bird_vlm.volumes import read_volume

    return read_volume(path)


def _engine(model: str, running: Running) -> Engine:
    from bird_vlm.catalogue.names import model_path

    model_path(model, console.print)  # shows its own progress
    with console.status(f"loading {model} ..."):
        from bird_vlm.engine import load_engine

        return load_engine(model, running)


def _grounded(
    engine: Engine, scan: Volume, request: contract.GroundingRequest
) -> contract.GroundingResult:
    from bird_vlm import volume as questions

    started = time.perf_counter()
    with progress("asking slices") as show:
        for event in questions.grounding_events(engine, scan, request):
            if isinstance(event, contract.GroundingResult):
                console.print(f"{time.perf_counter() - started:.1f} s on {engine.card.device}")
                return event
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


def _slice_range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        start, stop = (int(part) for part in text.split(":"))
    except ValueError as error:
        raise BadRequestError(f"slices: write A:B, such as 20:40, got {text!r}") from error
    return start, stop


def _window(text: str | None) -> tuple[float, float] | None:
    from bird_vlm.windows import CT_WINDOWS

    if text is None or text in CT_WINDOWS:
        return CT_WINDOWS.get(text)
    try:
        return _numbers("window", text, 2)
    except BadRequestError as error:
        raise BadRequestError(f"{error}; or one of {', '.join(CT_WINDOWS)}") from error


def _numbers(name: str, text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise BadRequestError(f"{name}: needs {count} numbers with commas between, got {text!r}")
    return values


if __name__ == "__main__":
    app()
