"""A place: an oriented box in a volume's RAS, as text and compared.

Knows nothing about nodes or voxels.
"""

from collections import namedtuple
from functools import lru_cache
from itertools import product

import numpy as np

Place = namedtuple("Place", "center_ras size_mm axes_ras")  # (3,), (3,), (3, 3): columns are axes
TOLERANCE_MM = 0.01
_HALVES = np.array(list(product((-0.5, 0.5), repeat=3)))


def place_text(place):
    """15 numbers, a place as a table cell holds it.

    >>> place_text(Place((1, 2, 3), (4, 5, 6), np.eye(3))).split()[:6]
    ['1', '2', '3', '4', '5', '6']
    """
    parts = (np.ravel(part) for part in place)
    return " ".join("{:.7g}".format(number) for part in parts for number in part)


@lru_cache(maxsize=4096)
def place_of(text):
    """The Place that `place_text` wrote, or None for an empty text."""
    numbers = np.array(text.split(), dtype=float)
    if numbers.size != 15:
        return None
    return Place(numbers[:3], numbers[3:6], numbers[6:].reshape(3, 3))


def same_place(place, other):
    """Whether two boxes have the same corners.

    >>> box = Place((0, 0, 0), (2, 2, 2), np.eye(3))
    >>> same_place(box, box._replace(center_ras=(0, 0, 1)))
    False
    """
    return bool(same_places([place], [other])[0])


def same_places(places, others):
    """`same_place` of each pair, as a bool array (n,)."""
    apart = np.abs(_corners(places) - _corners(others))
    return apart.max(axis=(1, 2), initial=0.0) <= TOLERANCE_MM


def _corners(places):
    """(n, 8, 3)"""
    centers = np.array([place.center_ras for place in places], dtype=float).reshape(-1, 1, 3)
    sizes = np.array([place.size_mm for place in places], dtype=float).reshape(-1, 1, 3)
    axes = np.array([place.axes_ras for place in places], dtype=float).reshape(-1, 3, 3)
    return centers + _HALVES @ np.swapaxes(axes * sizes, 1, 2)
