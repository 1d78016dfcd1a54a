"""What all readers share: pictures, JSON larger than memory, and names that stay in a folder.

Knows nothing about what the files mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import ijson
import numpy as np

from bird_vlm.errors import BirdError
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import read_volume
from bird_vlm.windows import slice_picture


@dataclass(frozen=True)
class Skipped:
    """A picture or volume that is left out, and why."""

    name: str  # as the source calls it
    reason: str  # one line


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused where the name would lead out of the folder.

    >>> inside(Path("data"), "images/a.png").as_posix()
    'data/images/a.png'
    """
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    leaves = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if leaves or "\0" in name or not windows.parts:
        raise BirdError(f"{name!r}: is no path inside {folder}; name files relative to that folder")
    return folder / name


def read_slice_picture(path: Path) -> np.ndarray:
    """The picture in a file as the product shows it to a model, uint8 (height, width[, 3]).

    Raises BadVolumeError, with the path, where it cannot be read.
    """
    volume = read_volume(path)
    return slice_picture(volume, slice_stack(volume.geometry(), "axial"), 0)


def stream_object(path: Path) -> Iterator[tuple[str, Any]]:
    """The keys and values of a JSON object, one at a time."""
    return _stream(path, b"{", "object", lambda file: ijson.kvitems(file, "", use_float=True))


def stream_list(path: Path) -> Iterator[Any]:
    """The items of a JSON list, one at a time."""
    return _stream(path, b"[", "list", lambda file: ijson.items(file, "item", use_float=True))


def _stream(path: Path, opening: bytes, kind: str, parse) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            first = _first_byte(file)
            if first in (b"{", b"[") and first != opening:
                raise BirdError(f"{path}: is not a JSON {kind}; is it the right file?")
            yield from parse(file)
    except FileNotFoundError as error:
        raise BirdError(f"{path}: missing; check the folder") from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise BirdError(f"{path}: is not valid JSON ({' '.join(str(error).split())})") from error
    except OSError as error:
        raise BirdError(f"{path}: cannot be read ({error})") from error


def _first_byte(file: BinaryIO) -> bytes:
    while (byte := file.read(1)).isspace():
        pass
    file.seek(0)
    return byte
