"""Boxes on one picture: pixel <-> norm, mask -> box, overlap.

A `box_pixel` is x0, y0, x1, y1 in continuous pixels, (0, 0) = outer corner of the top-left pixel,
so a box around the single pixel (column 2, row 5) is (2, 5, 3, 6). A `box_norm` is the same in
integers 0..1000 of the picture's width and height: what the model reads and writes (paper, section
3.1).
Knows nothing about text, slices or RAS.
"""

from __future__ import annotations

import numpy as np

from bird_vlm.contract import BoxPixel

NORM_MAX = 1000
BoxNorm = tuple[int, int, int, int]


def pixel_to_norm(box_pixel: BoxPixel, width: int, height: int) -> BoxNorm:
    """The nearest norm box, at least one unit wide and high, clipped to the picture.

    >>> pixel_to_norm((0, 5, 64, 128), width=128, height=128)
    (0, 39, 500, 1000)
    """
    x0, x1 = _span_to_norm(box_pixel[0], box_pixel[2], width)
    y0, y1 = _span_to_norm(box_pixel[1], box_pixel[3], height)
    return x0, y0, x1, y1


def norm_to_pixel(box_norm: BoxNorm, width: int, height: int) -> BoxPixel:
    """The norm box in pixels of a picture of this size."""
    x0, y0, x1, y1 = box_norm
    return (
        x0 * width / NORM_MAX,
        y0 * height / NORM_MAX,
        x1 * width / NORM_MAX,
        y1 * height / NORM_MAX,
    )


def mask_to_box_pixel(mask: np.ndarray) -> BoxPixel | None:
    """The tight box around the non-zero pixels of a (height, width) mask; None where empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def iou(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes of the same space; 0 where both are empty.

    >>> iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    overlap = _overlap(box, other)
    union = _area(*box) + _area(*other) - overlap
    return overlap / union if union else 0.0


def overlap_share(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Which part of the smaller box lies in the larger, 0..1; 0 where one is empty.

    >>> overlap_share((0, 0, 10, 10), (8, 0, 12, 4))
    0.5
    """
    smaller = min(_area(*box), _area(*other))
    return _overlap(box, other) / smaller if smaller else 0.0


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    return _area(
        max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])
    )


def _area(x0: float, y0: float, x1: float, y1: float) -> float:
    return max(x1 - x0, 0) * max(y1 - y0, 0)


def _span_to_norm(low: float, high: float, length: int) -> tuple[int, int]:
    start, stop = (min(max(round(v * NORM_MAX / length), 0), NORM_MAX) for v in (low, high))
    if stop <= start:  # the unit that holds the middle
        start = min(max(int((low + high) / 2 * NORM_MAX / length), 0), NORM_MAX - 1)
        stop = start + 1
    return start, stop
