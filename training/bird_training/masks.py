"""The mask of one annotated object, from its file.

Knows nothing about pictures, boxes or tensors.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from bird_training.records import ObjectRecord
from bird_vlm.errors import BirdError


def read_mask(item: ObjectRecord) -> np.ndarray:
    """Which pixels belong to the object, bool (height, width).

    Raises BirdError, with the path, where the file is missing or no picture.
    """
    try:
        with Image.open(item.mask) as picture:
            values = np.asarray(picture.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise BirdError(f"{item.mask}: cannot be read as a mask ({error})") from error
    return values > 0 if item.value is None else values == item.value
