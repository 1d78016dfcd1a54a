"""Finds pictures that are nearly the same under different case names.

Frames of one video, or one scan published twice, would otherwise stand on both sides of a split.
Knows nothing about splits or masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from bird_training.records import PictureRecord
from bird_vlm.errors import BirdError

MAX_DISTANCE = 24  # differing bits of 256 in the signs of the horizontal gradients
MIN_CORRELATION = 0.75  # of the gradients: flat ground and the edge of the frame agree by chance
_SIDE = 16
_TILE = 1024  # pictures compared at once with as many others, to bound memory
Show = Callable[[int, int], None]  # done, total


def find_twins(
    records: Sequence[PictureRecord],
    workers: int = 2,
    on_picture: Show = lambda done, total: None,
) -> list[tuple[PictureRecord, PictureRecord]]:
    """Pairs of different cases, of one data set or two, whose pictures are nearly the same.

    Calls `on_picture(done, total)` as it reads. Raises BirdError, with the path, for a picture that
    cannot be read.
    """
    signs = np.empty((len(records), _SIDE**2 // 8), dtype=np.uint8)
    with ThreadPoolExecutor(workers) as pool:
        for row, value in enumerate(pool.map(signs_of, (r.image for r in records))):
            signs[row] = value
            on_picture(row + 1, len(records))
    cases = [(record.dataset, record.case) for record in records]
    pairs = twin_pairs(signs, lambda row: records[row].image, lambda i, j: cases[i] != cases[j])
    return [(records[i], records[j]) for i, j in pairs]


def twin_pairs(
    signs: np.ndarray,
    image_of: Callable[[int], Path],
    matters: Callable[[int, int], bool],
    show: Show = lambda done, total: None,
) -> Iterator[tuple[int, int]]:
    """Pairs i < j of pictures, as rows of `signs`, that are nearly the same.

    `signs` are packed, uint8 (pictures, 32). Two pictures are twins if the signs of their
    horizontal gradients on a 16 x 16 grid (the "difference hash") agree but for `MAX_DISTANCE`
    places, and their gradients in both directions on a 32 x 32 grid correlate by at least
    `MIN_CORRELATION`; for that the pictures are read again. Pairs that do not matter are left out
    unread. Raises BirdError as `signs_of`.
    """

    @lru_cache(maxsize=1024)
    def gradients(row: int) -> np.ndarray:
        return gradients_of(image_of(row))

    for i, j in _close_pairs(signs, show):
        if matters(i, j) and float(gradients(i) @ gradients(j)) >= MIN_CORRELATION:
            yield i, j


def signs_of(image: Path) -> np.ndarray:
    """256 bits of a picture, packed: uint8 (32,)."""
    thumbnail = _grey(image).resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    return np.packbits(np.diff(np.asarray(thumbnail, dtype=np.int16), axis=1) > 0)


def gradients_of(image: Path) -> np.ndarray:
    """(1984,) of unit length, or zeros for an even picture."""
    thumbnail = _grey(image).resize((2 * _SIDE,) * 2, Image.Resampling.BOX)
    values = np.asarray(thumbnail, dtype=np.float32)
    gradient = np.concatenate([np.diff(values, axis=axis).ravel() for axis in (0, 1)])
    return gradient / max(float(np.linalg.norm(gradient)), 1e-6)


def _grey(image: Path) -> Image.Image:
    try:
        with Image.open(image) as picture:
            picture.draft("L", (8 * _SIDE, 8 * _SIDE))  # JPEG: decodes a small version, much faster
            return picture.convert("L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BirdError(f"{image}: cannot be read as a picture ({error})") from error


def _close_pairs(signs: np.ndarray, show: Show) -> Iterator[tuple[int, int]]:
    """Rows i < j that differ in at most `MAX_DISTANCE` bits."""
    starts = range(0, len(signs), _TILE)
    for low in starts:
        rows = _as_numbers(signs[low : low + _TILE])
        least_agreement = rows.shape[1] - 2 * MAX_DISTANCE
        for high in starts[low // _TILE :]:
            close = rows @ _as_numbers(signs[high : high + _TILE]).T >= least_agreement
            for i, j in np.argwhere(close):
                if low + i < high + j:
                    yield low + int(i), high + int(j)
        show(low + len(rows), len(signs))


def _as_numbers(signs: np.ndarray) -> np.ndarray:
    """Bits -> -1 and 1, float32, so that a product counts how many agree."""
    return np.unpackbits(signs, axis=1).astype(np.float32) * 2 - 1
