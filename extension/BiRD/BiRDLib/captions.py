"""Words as coloured pixels of a view, and room for them: none lies on another.

Text in a view costs Slicer more than all boxes there; pixels with colours are one draw call for all
words. Knows nothing about MRML, views or findings.
"""

from collections import namedtuple
from functools import lru_cache

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

FONT_SIZE = 13  # pixels, where a view asks for no other
_DPI = 72  # of fonts: a point is a pixel
_STEPS = (0, 1, 2, -1, 3)  # of their own height that words move up, until they have room
_FULL = 0.85  # opacity that thin letters reach in the middle of a stroke; from here on it is 1
_LEAST = 0.3  # opacity; fainter pixels are left out
_HALO = 0.75  # opacity of the dark around letters, by which they are read on bright tissue

# offsets (n, 2): whole pixels, rightwards and upwards from the lower left corner of the words;
# colors (n, 4): uint8 red, green, blue, opacity; width, height: pixels
Pixels = namedtuple("Pixels", "offsets colors width height")


@lru_cache(maxsize=512)
def pixels_of(words, color, font_size=FONT_SIZE):
    """The Pixels of words in a colour, (r, g, b) in 0..1; what shows nothing is left out."""
    letters = np.pad(_opacity(words, font_size), 1)
    halo = np.maximum(letters, _HALO * _widened(letters))
    rows, columns = np.nonzero(halo > _LEAST)
    inside, opacity = letters[rows, columns], halo[rows, columns]
    share = inside / opacity  # of the letter in what shows; the rest is dark
    colors = np.column_stack([share[:, None] * color, opacity])
    height, width = letters.shape
    return Pixels(
        np.column_stack([columns, rows]), np.round(255 * colors).astype(np.uint8), width, height
    )


def places(corners, leftwards, sizes):
    """Lower left corners (n, 2) of words that stand on `corners` where there is room; pixels.

    `corners`: (x, y) where each starts, or where it ends if `leftwards`; `sizes`: (width, height).
    Where others are in the way, words move up, or else down; where nothing is free, they stay.
    """
    taken = []
    for (x, y), ending, (width, height) in zip(corners, leftwards, sizes):  # noqa: B905
        left, bottom = round(x) - (width if ending else 0), round(y) + 1
        tries = [(left, bottom + step * height, width, height) for step in _STEPS]
        free = (place for place in tries if not any(_overlap(place, other) for other in taken))
        taken.append(next(free, tries[0]))
    return np.array([place[:2] for place in taken], dtype=float)


def _opacity(words, font_size):
    """Opacity (height, width) in 0..1 of words, bottom row first."""
    style = vtk.vtkTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(font_size)
    image, extent = vtk.vtkImageData(), [0, 0]
    vtk.vtkTextRenderer.GetInstance().RenderString(style, words, image, extent, _DPI)
    columns, rows, _ = image.GetDimensions()
    if not columns * rows:
        return np.zeros((0, 0))
    rgba = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 4)
    used = rgba[:, : extent[0] + 1, 3]
    return np.minimum(used[: extent[1] + 2] / 255.0 / _FULL, 1.0)


def _widened(letters):
    """The largest opacity among each pixel and its eight neighbours."""
    wide = letters.copy()
    wide[:, 1:] = np.maximum(wide[:, 1:], letters[:, :-1])
    wide[:, :-1] = np.maximum(wide[:, :-1], letters[:, 1:])
    tall = wide.copy()
    tall[1:] = np.maximum(tall[1:], wide[:-1])
    tall[:-1] = np.maximum(tall[:-1], wide[1:])
    return tall


def _overlap(place, other):
    x, y, width, height = place
    left, bottom, across, up = other
    return x < left + across and left < x + width and y < bottom + up and bottom < y + height
