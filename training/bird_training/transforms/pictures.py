"""From files to training pictures: MONAI dictionary transforms that keep left and right true.

A sample is a dictionary: `image` float (channels, size, size) in 0..1, `instances` float
(objects, size, size) in {0, 1}, `labels` the objects' names in the same order, `record`. Knows
nothing about questions or tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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
from bird_training.records import PictureRecord
from bird_training.regions import MIRRORED, WITHOUT_DIRECTION, region_of
from bird_training.sources.reading import read_slice_picture
from bird_vlm.labels import mirrored_name


def squeezed(picture: np.ndarray, size: int) -> torch.Tensor:
    """A slice picture as the model's processor squeezes it, uint8 (channels, size, size)."""
    resized = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
    return torch.as_tensor(np.array(resized).reshape(size, size, -1)).permute(2, 0, 1).contiguous()


def squeezed_instances(masks: Sequence[tuple[str, np.ndarray]], size: int) -> dict[str, Any]:
    """Names and masks, bool (height, width) -> `instances` and `labels`; vanished ones dropped."""
    shown = [(label, mask) for label, whole in masks if (mask := _squeezed_mask(whole, size)).any()]
    return {
        "instances": torch.stack([mask for _, mask in shown])
        if shown
        else torch.zeros(0, size, size, dtype=torch.uint8),
        "labels": [label for label, _ in shown],
    }


def _squeezed_mask(mask: np.ndarray, size: int) -> torch.Tensor:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    resized = picture.resize((size, size), Image.Resampling.BOX)
    return torch.as_tensor(np.array(resized) >= 128).to(torch.uint8)


class LoadPicture(Transform):
    """PictureRecord -> sample, read and squeezed to (size, size) as the product does at inference.

    Values are uint8 so that many samples fit in memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, record: PictureRecord) -> dict[str, Any]:
        image = squeezed(read_slice_picture(record.image), self.size)
        masks = [(item.label, read_mask(item)) for item in record.objects]
        return {"image": image, **squeezed_instances(masks, self.size), "record": record}


class ToFloat(Transform):
    """uint8 sample -> float sample."""

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, instances = sample["image"].float() / 255, sample["instances"].float()
        return {**sample, "image": image, "instances": instances}


class RandMirrord(RandomizableTransform, MapTransform):
    """Mirrors a picture only where the mirror image is as true, and swaps the words for the sides.

    Chest, abdomen and heart are never mirrored: a liver belongs on the right. Pictures without any
    direction, as of skin, are turned by right angles too.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result, record = dict(sample), sample["record"]
        self.randomize(None)
        if self._do_transform and may_mirror(record.dataset, record.plane):
            result.update({key: result[key].flip(-1) for key in self.keys})
            result["labels"] = [mirrored_name(label) for label in result["labels"]]
        if record.dataset in WITHOUT_DIRECTION:
            turns = self.R.randint(4)
            result.update({key: result[key].rot90(turns, (-2, -1)) for key in self.keys})
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


def may_mirror(dataset: str, plane: str = "") -> bool:
    """Whether a mirrored picture of this dataset is as true, once the words change sides.

    A dataset that is not known here is never mirrored.
    """
    known = region_of(dataset) in MIRRORED or dataset in WITHOUT_DIRECTION
    return known and plane != "sagittal"


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
                rotate_range=0.2,
                scale_range=((-0.3, 0.2), (-0.3, 0.2)),
                translate_range=(size * 0.08, size * 0.08),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
                allow_missing_keys=True,
            ),
            *grey_value_changes(),
        ]
    )


def grey_value_changes() -> list[Transform]:
    """Random windows, contrast, brightness, blur and noise of `image`; boxes and masks stay."""
    return [
        RandWindowd(keys=["image"], prob=0.35),
        RandAdjustContrastd(keys=["image"], prob=0.4, gamma=(0.6, 1.7)),
        RandScaleIntensityd(keys=["image"], prob=0.4, factors=0.25),
        RandScaleIntensityd(keys=["image"], prob=0.4, factors=0.12, channel_wise=True),
        RandShiftIntensityd(keys=["image"], prob=0.4, offsets=0.08),
        RandGaussianSmoothd(keys=["image"], prob=0.15, sigma_x=(0.4, 1.3), sigma_y=(0.4, 1.3)),
        RandGaussianNoised(keys=["image"], prob=0.2, std=0.03),
    ]
