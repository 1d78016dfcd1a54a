"""Arguments that several commands take, and how their texts are read.

Knows nothing about models.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bird_vlm.errors import BadRequestError

if TYPE_CHECKING:
    from bird_vlm.volumes import Volume

VolumePath = Annotated[
    Path,
    typer.Argument(help="NIfTI, NRRD, MetaImage, DICOM file or folder; or a PNG or JPEG picture."),
]
Plane = Annotated[str, typer.Option(help="axial, coronal or sagittal: the volume's own axes.")]
Model = Annotated[
    str,
    typer.Option(
        help="A name of `bird models`, a model folder, or a hub id; with --backend its name there."
    ),
]
Window = Annotated[
    str | None,
    typer.Option(help="LEVEL,WIDTH in the volume's units, or a CT preset such as lung."),
]


def read_scan(path: Path) -> Volume:
    from bird_vlm.volumes import read_volume

    return read_volume(path)


def slice_range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        start, stop = (int(part) for part in text.split(":"))
    except ValueError as error:
        raise BadRequestError(f"slices: write A:B, such as 20:40, got {text!r}") from error
    return start, stop


def level_width(text: str | None) -> tuple[float, float] | None:
    from bird_vlm.windows import CT_WINDOWS

    if text is None or text in CT_WINDOWS:
        return CT_WINDOWS.get(text)
    try:
        return numbers("window", text, 2)
    except BadRequestError as error:
        raise BadRequestError(f"{error}; or one of {', '.join(CT_WINDOWS)}") from error


def numbers(name: str, text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise BadRequestError(f"{name}: needs {count} numbers with commas between, got {text!r}")
    return values
