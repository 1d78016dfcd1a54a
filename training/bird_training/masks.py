"""The masks of annotated objects, from their files, and their connected areas.

Knows nothing about pictures, tensors or words.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from bird_training.records import ObjectRecord
from bird_vlm.errors import BirdError

_MIN_PIXELS = 4  # of an area, below which it is noise of the mask
_EVERYWHERE = np.ones((3, 3), int)  # areas that touch at a corner are one


def read_mask(item: ObjectRecord) -> np.ndarray:
    """Which pixels belong to the object, bool (height, width).

    Raises BirdError, with the path, where the file is missing, no picture or far too large.
    """
    try:
        with Image.open(item.mask) as picture:
            values = np.asarray(picture.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BirdError(f"{item.mask}: cannot be read as a mask ({error})") from error
    return values > 0 if item.value is None else values == item.value


def connected_areas(mask: np.ndarray) -> list[np.ndarray]:
    """The connected areas of a mask (height, width), each bool of its shape; specks are left out.

    >>> [int(area.sum()) for area in connected_areas(np.array([[1, 1, 0, 1], [1, 1, 0, 0]]))]
    [4]
    """
    parts, _ = ndimage.label(mask, _EVERYWHERE)
    sizes = np.bincount(parts.ravel())[1:]
    return [parts == part for part, size in enumerate(sizes, start=1) if size >= _MIN_PIXELS]
