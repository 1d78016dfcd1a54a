"""From files to training pictures: MONAI dictionary transforms that keep left and right true.

A sample is a dictionary: `image` float (channels, size, size) in 0..1, `instances` float
(objects, size, size) in {0, 1}, `labels` the objects' names in the same order, `record`. Knows
nothing about questions or tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
    Transform,
)
from PIL import Image

from bird_training.masks import read_mask
from bird_training.records import ObjectRecord, PictureRecord
from bird_training.regions import MIRRORED, UPSIDE_DOWN, region_of
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import read_volume
from bird_vlm.windows import slice_picture

_SIDES = {"left": "right", "right": "left"}


class LoadPicture(Transform):
    """PictureRecord -> sample, read and squeezed to (size, size) as the product does at inference.

    Values are uint8 so that many samples fit in memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, record: PictureRecord) -> dict[str, Any]:
        volume = read_volume(record.image)
        picture = slice_picture(volume, slice_stack(volume.geometry(), "axial"), 0)
        resized = Image.fromarray(picture).resize((self.size,) * 2, Image.Resampling.BICUBIC)
        image = np.array(resized).reshape(self.size, self.size, -1)
        masks = [self._mask(item) for item in record.objects]
        kept = [i for i, mask in enumerate(masks) if mask.any()]
        return {
            "image": torch.as_tensor(image).permute(2, 0, 1).contiguous(),
            "instances": torch.stack([masks[i] for i in kept])
            if kept
            else torch.zeros(0, self.size, self.size, dtype=torch.uint8),
            "labels": [record.objects[i].label for i in kept],
            "record": record,
        }

    def _mask(self, item: ObjectRecord) -> torch.Tensor:
        picture = Image.fromarray(read_mask(item).astype(np.uint8) * 255)
        resized = picture.resize((self.size, self.size), Image.Resampling.BOX)
        return torch.as_tensor(np.array(resized) >= 128).to(torch.uint8)


class ToFloat(Transform):
    """uint8 sample -> float sample."""

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, instances = sample["image"].float() / 255, sample["instances"].float()
        return {**sample, "image": image, "instances": instances}


class RandMirrord(RandomizableTransform, MapTransform):
    """Mirrors a picture only where the mirror image is as true, and swaps the words for the sides.

    Chest, abdomen and heart are never mirrored: a liver belongs on the right.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result, record = dict(sample), sample["record"]
        region = region_of(record.dataset)
        self.randomize(None)
        if self._do_transform and region in MIRRORED and record.plane != "sagittal":
            result.update({key: result[key].flip(-1) for key in self.keys})
            result["labels"] = [mirrored_name(label) for label in result["labels"]]
        self.randomize(None)
        if self._do_transform and region in UPSIDE_DOWN:
            result.update({key: result[key].flip(-2) for key in self.keys})
        return result


class RandWindowd(RandomizableTransform, MapTransform):
    """Stretches the grey values around the tissue's, as another window would show them.

    Only for grey pictures: slices come in any window at inference.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(sample)
        for key in self.keys:
            self.randomize(None)
            if self._do_transform and result[key].shape[0] == 1:
                result[key] = self._stretch(result[key])
        return result

    def _stretch(self, image: torch.Tensor) -> torch.Tensor:
        body = image[image > 0.12]
        if body.numel() < 64:
            return image
        tissue = float(body.median())
        width = tissue * self.R.uniform(0.4, 2.0)
        low = tissue - width * self.R.uniform(0.35, 0.65)
        return ((image - low) / width).clamp(0, 1)


def mirrored_name(label: str) -> str:
    """
    >>> mirrored_name("left kidney"), mirrored_name("liver")
    ('right kidney', 'liver')
    """
    return " ".join(_SIDES.get(word, word) for word in label.split())


def augmentation(size: int) -> Compose:
    """The random part of training; a fresh draw at every call."""
    both = ["image", "instances"]
    return Compose(
        [
            ToFloat(),
            RandMirrord(keys=both, prob=0.5),
            RandAffined(
                keys=both,
                prob=0.8,
                rotate_range=0.12,
                scale_range=((-0.25, 0.2), (-0.25, 0.2)),
                translate_range=(size * 0.08, size * 0.08),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
                allow_missing_keys=True,
            ),
            RandWindowd(keys=["image"], prob=0.35),
            RandAdjustContrastd(keys=["image"], prob=0.4, gamma=(0.6, 1.7)),
            RandScaleIntensityd(keys=["image"], prob=0.4, factors=0.25),
            RandShiftIntensityd(keys=["image"], prob=0.4, offsets=0.08),
            RandGaussianSmoothd(keys=["image"], prob=0.15, sigma_x=(0.4, 1.3), sigma_y=(0.4, 1.3)),
            RandGaussianNoised(keys=["image"], prob=0.2, std=0.03),
        ]
    )
