"""Finds pictures that are nearly the same under different case names.

Frames of one video, or one scan published twice, would otherwise stand on both sides of a split.
Knows nothing about splits or masks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from PIL import Image

from bird_training.records import PictureRecord
from bird_vlm.errors import BirdError

MAX_DISTANCE = 24  # differing bits of 256 in the signs of the horizontal gradients
MIN_CORRELATION = 0.75  # of the gradients: flat ground and the edge of the frame agree by chance
_SIDE = 16
_ROWS = 4096  # pictures compared at once, to bound memory


def find_twins(
    records: Sequence[PictureRecord],
    workers: int = 2,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> list[tuple[PictureRecord, PictureRecord]]:
    """Pairs of different cases of one dataset whose pictures are nearly the same.

    Two pictures are twins if the signs of their horizontal gradients on a 16 x 16 grid (the
    "difference hash") agree but for `MAX_DISTANCE` places, and their gradients in both directions
    on a 32 x 32 grid correlate by at least `MIN_CORRELATION`. Calls `on_picture(done, total)` as it
    reads. Raises BirdError, with the path, for a picture that cannot be read.
    """
    signs = np.empty((len(records), _SIDE**2), dtype=bool)
    datasets = defaultdict(list)
    with ThreadPoolExecutor(workers) as pool:
        for row, value in enumerate(pool.map(signs_of, records)):
            signs[row] = value
            datasets[records[row].dataset].append(row)
            on_picture(row + 1, len(records))
    candidates = (
        (records[rows[i]], records[rows[j]])
        for rows in datasets.values()
        for i, j in _close_pairs(signs[rows])
    )
    gradients = lru_cache(maxsize=1000)(gradients_of)
    return [
        (first, second)
        for first, second in candidates
        if first.case != second.case
        and float(gradients(first) @ gradients(second)) >= MIN_CORRELATION
    ]


def signs_of(record: PictureRecord) -> np.ndarray:
    """(256,) bool."""
    thumbnail = _grey(record).resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    return (np.diff(np.asarray(thumbnail, dtype=np.int16), axis=1) > 0).ravel()


def gradients_of(record: PictureRecord) -> np.ndarray:
    """(1984,) of unit length, or zeros for an even picture."""
    thumbnail = _grey(record).resize((2 * _SIDE,) * 2, Image.Resampling.BOX)
    values = np.asarray(thumbnail, dtype=np.float32)
    gradient = np.concatenate([np.diff(values, axis=axis).ravel() for axis in (0, 1)])
    return gradient / max(float(np.linalg.norm(gradient)), 1e-6)


def _grey(record: PictureRecord) -> Image.Image:
    try:
        with Image.open(record.image) as picture:
            picture.draft("L", (8 * _SIDE, 8 * _SIDE))  # JPEG: decodes a small version, much faster
            return picture.convert("L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BirdError(f"{record.image}: cannot be read as a picture ({error})") from error


def _close_pairs(signs: np.ndarray) -> Iterator[tuple[int, int]]:
    """Index pairs i < j whose signs differ in at most `MAX_DISTANCE` places."""
    values = np.where(signs, 1, -1).astype(np.float32)
    least_agreement = values.shape[1] - 2 * MAX_DISTANCE
    for start in range(0, len(values), _ROWS):
        for i, j in np.argwhere(values[start : start + _ROWS] @ values.T >= least_agreement):
            if start + i < j:
                yield start + int(i), int(j)
