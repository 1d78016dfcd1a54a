"""The masks of annotated objects, from their files, and the boxes around them.

Knows nothing about pictures, tensors or words.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from bird_training.records import ObjectRecord, PictureRecord
from bird_vlm.boxes import BoxNorm, mask_to_box_pixel, pixel_to_norm
from bird_vlm.errors import BirdError


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


def record_boxes_norm(record: PictureRecord, most: int) -> dict[str, list[BoxNorm]]:
    """The boxes of each object on a picture, the largest masks first and at most `most` of them.

    Objects whose mask is empty have none and are left out. Raises BirdError as `read_mask`.
    """
    boxes: dict[str, list[tuple[int, BoxNorm]]] = {}
    for item in record.objects:
        mask = read_mask(item)
        box_pixel = mask_to_box_pixel(mask)
        if box_pixel:
            box_norm = pixel_to_norm(box_pixel, mask.shape[1], mask.shape[0])
            boxes.setdefault(item.label, []).append((int(mask.sum()), box_norm))
    return {
        label: [box for _, box in sorted(found, reverse=True)[:most]]
        for label, found in boxes.items()
    }
