"""`bird convert`: original checkpoints to ours, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bird_vlm.console import console, plain_errors, progress

EPILOG = "bird convert Qwen-VL-Chat/ bird-from-qwen/"


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
