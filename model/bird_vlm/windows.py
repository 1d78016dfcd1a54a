"""Windows: grey values -> the 8 bits that a person or the model sees.

A window is (level, width) in the volume's units: level - width / 2 is black, level + width / 2 is
white. `slice_picture` is the one way to a slice picture, in training and in inference. Knows
nothing about boxes, labels or files.
"""

from __future__ import annotations

import numpy as np

from bird_vlm.slices import SliceStack
from bird_vlm.volumes import Volume

Window = tuple[float, float]  # (level, width)

CT_WINDOWS: dict[str, Window] = {  # HU
    "soft tissue": (40.0, 400.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
EIGHT_BITS: Window = (127.5, 255.0)  # shows 0..255 as they are

_CT_AIR = -500.0  # HU; a CT shows some air
_CT_RANGE = (-1100.0, 3100.0)  # HU, what a 12-bit scanner writes
_SHARE_IN_RANGE = 0.95
_PERCENTILES = (0.5, 99.5)
_SAMPLES = 500_000  # voxels looked at to choose a window


def automatic_window(volume: Volume) -> Window:
    """The window for a volume that nobody chose one for.

    CT, known by its Hounsfield units, gets the soft-tissue window; an 8-bit grey picture stays as
    it is; anything else spans the 0.5 to 99.5 percentile of the voxels that are not background
    (the most frequent value: 0 outside a masked brain, air in a scan of integers).
    """
    values = _sample(volume.array)
    if is_ct(values):
        return CT_WINDOWS["soft tissue"]
    if volume.is_colour or (volume.is_picture and _is_eight_bits(values)):
        return EIGHT_BITS
    foreground = values[values != _most_frequent(values)]
    if not foreground.size:
        return float(values.min()), 1.0
    low, high = map(float, np.percentile(foreground, _PERCENTILES))
    low = low if high > low else float(values.min())
    return (low + high) / 2, high - low


def is_ct(values: np.ndarray) -> bool:
    """Whether grey values are Hounsfield units: air is there, and nearly all else is in range.

    The lowest value is left out of the count, since scanners pad the picture's corners with it.
    """
    lowest = values.min()
    if lowest > _CT_AIR:
        return False
    inside = values[values > lowest]
    if not inside.size:
        return False
    in_range = (inside >= _CT_RANGE[0]) & (inside <= _CT_RANGE[1])
    return bool(in_range.mean() >= _SHARE_IN_RANGE)


def to_uint8(picture: np.ndarray, window: Window) -> np.ndarray:
    """Grey values through a window, uint8 of the same shape.

    >>> to_uint8(np.array([-500.0, -160.0, 40.0, 240.0, 900.0]), (40, 400)).tolist()
    [0, 0, 128, 255, 255]
    """
    level, width = window
    grey = (picture.astype(np.float32) - (level - width / 2)) * (255 / width)
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)


def slice_picture(
    volume: Volume, stack: SliceStack, index: int, window: Window | None = None
) -> np.ndarray:
    """Slice `index` of the stack as uint8 (height, width), or (height, width, 3) in colour.

    Without a window the automatic one is taken; colour pictures pass unchanged. Raises
    BadRequestError where the volume has no such slice.
    """
    picture = stack.cut(volume.array, index)
    if volume.is_colour:
        return np.ascontiguousarray(picture)
    return to_uint8(picture, window or automatic_window(volume))


def _sample(array: np.ndarray) -> np.ndarray:
    step = max(1, round((array.size / _SAMPLES) ** (1 / 3)))
    return array[::step, ::step, ::step]


def _most_frequent(values: np.ndarray) -> float:
    levels, counts = np.unique(values, return_counts=True)
    return levels[counts.argmax()]


def _is_eight_bits(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 255 and (values == np.rint(values)).all())
