"""Pictures whose objects are told by boxes alone, without masks: read, augmented, told again.

A sample is a dictionary: `facts`, what is known of the picture in its file; `image` float
(channels, height, width) in 0..1; `boxes_pixel` float (boxes, 4), x0, y0, x1, y1 in pixels of that
image; `labels`, the objects' names in the same order; `absent`, the names of what is not there.

A box says nothing about the shape inside it, so a turned picture would need another box that nobody
knows, and so would an object that is cut at the picture's edge: pictures are scaled, shifted and
mirrored only, and each box stays whole, so that all that was there or absent still is. Where there
are masks, `transforms.pictures.augmentation` does more. Knows nothing about questions or builds.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.apps.detection.transforms.array import AffineBox, ClipBoxToImage, FlipBox
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import (
    Compose,
    Flip,
    RandAffined,
    RandomizableTransform,
    ScaleIntensityRanged,
    Transform,
)
from PIL import Image

from bird_training.facts import PictureFacts, PlacedObject
from bird_training.sources.reading import read_slice_picture
from bird_training.transforms.pictures import grey_value_changes, may_mirror
from bird_vlm.boxes import norm_to_pixel, pixel_to_norm
from bird_vlm.labels import mirrored_name

_TRIES = 6  # draws of a scale and shift that keep all boxes, before the picture stays as it is
_TOLERANCE = 0.5  # pixels by which a box may leave the picture and be clipped


def augmented_copy(facts: PictureFacts, name: str, path: Path, seed: int) -> PictureFacts:
    """Writes a PNG that shows the picture of `facts` otherwise; what is known of that, as `name`.

    The same seed draws the same copy. Raises BirdError where the picture cannot be read.
    """
    sample = LoadPlacedPicture()(facts)
    augment = box_augmentation(*sample["image"].shape[1:])
    augment.set_random_state(seed)
    sample = augment(sample)
    values = (sample["image"].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(values.squeeze(2) if values.shape[2] == 1 else values).save(path)
    return replace(told_facts(sample), id=name, image=path)


class LoadPlacedPicture(Transform):
    """PictureFacts -> sample, `image` uint8 in the picture's own size.

    Raises BirdError, with the path, for a picture that cannot be read.
    """

    def __call__(self, facts: PictureFacts) -> dict[str, Any]:
        picture = np.array(read_slice_picture(facts.image))  # one that may be written to
        height, width = picture.shape[:2]
        image = torch.as_tensor(picture.reshape(height, width, -1)).permute(2, 0, 1).contiguous()
        boxes = [norm_to_pixel(placed.box_norm, width, height) for placed in facts.objects]
        return {
            "facts": facts,
            "image": image,
            "boxes_pixel": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": [placed.label for placed in facts.objects],
            "absent": list(facts.absent),
        }


class RandMirrorBoxesd(RandomizableTransform):
    """Mirrors picture, boxes and names where that is as true: never where the dataset is unknown.

    The names of sides change: a left kidney becomes a right one.
    """

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.flip, self.flip_boxes = Flip(spatial_axis=1), FlipBox(spatial_axis=1)

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result, facts = dict(sample), sample["facts"]
        self.randomize(None)
        if not (self._do_transform and may_mirror(facts.dataset, facts.plane)):
            return result
        boxes, shape = _turned(sample["boxes_pixel"]), sample["image"].shape[1:]
        result["boxes_pixel"] = _turned(self.flip_boxes(boxes, shape))
        result["image"] = self.flip(sample["image"])
        for key in ("labels", "absent"):
            result[key] = [mirrored_name(name) for name in sample[key]]
        return result


class RandAffineBoxesd(RandAffined):
    """Scales and shifts the picture; the boxes follow and none of them is cut."""

    def __init__(
        self, prob: float, scale_range: Sequence[float], translate_range: Sequence[float]
    ) -> None:
        super().__init__(
            keys=["image"],
            prob=prob,
            scale_range=[tuple(scale_range)] * 2,
            translate_range=tuple(translate_range),
            mode="bilinear",
            padding_mode="zeros",
        )
        self.clip = ClipBoxToImage(remove_empty=False)

    def __call__(self, sample: Mapping[Hashable, Any], lazy: bool | None = None) -> dict:
        before = {**sample, "image": MetaTensor(sample["image"])}
        for _ in range(_TRIES):
            moved = super().__call__(before, lazy=lazy)
            boxes = boxes_followed(sample["boxes_pixel"], before["image"], moved["image"])
            clipped, _ = self.clip(_turned(boxes), [], moved["image"].shape[1:])
            clipped = _turned(clipped)
            if torch.allclose(clipped, boxes, atol=_TOLERANCE, rtol=0):
                return {**moved, "boxes_pixel": clipped}
        return dict(before)


def box_augmentation(height: int, width: int) -> Compose:
    """Random changes of a sample whose picture has this size in pixels."""
    return Compose(
        [
            ScaleIntensityRanged("image", a_min=0, a_max=255, b_min=0, b_max=1),
            RandMirrorBoxesd(prob=0.5),
            RandAffineBoxesd(
                prob=0.8,
                scale_range=(-0.25, 0.2),
                translate_range=(height * 0.06, width * 0.06),
            ),
            *grey_value_changes(),
        ]
    )


def told_facts(sample: Mapping[Hashable, Any]) -> PictureFacts:
    """What is known of a sample's picture as it is now; areas grow as their boxes do."""
    facts, (height, width) = sample["facts"], sample["image"].shape[-2:]
    objects = []
    for before, label, box in zip(
        facts.objects, sample["labels"], sample["boxes_pixel"].tolist(), strict=True
    ):
        growth = _area(box) / _area(norm_to_pixel(before.box_norm, width, height))
        area_norm = None if before.area_norm is None else round(before.area_norm * growth)
        box_norm = pixel_to_norm(tuple(box), width, height)
        objects.append(PlacedObject(label, box_norm, area_norm, before.parts))
    objects.sort(key=lambda o: (o.label, o.box_norm))
    return replace(facts, objects=tuple(objects), absent=tuple(sample["absent"]))


def boxes_followed(boxes_pixel: torch.Tensor, before: MetaTensor, after: MetaTensor) -> Any:
    """Where boxes (n, 4) on a picture lie once MONAI has scaled and shifted it.

    The pictures' affine matrices, from voxel centres to a common world, tell how.
    """
    old, new = (to_affine_nd(2, np.asarray(image.affine)) for image in (before, after))
    matrix = np.linalg.inv(new) @ old
    if np.abs(matrix[[0, 1], [1, 0]]).max() > 1e-6:
        raise ValueError("after: the picture was turned or sheared; boxes cannot follow that")
    half = 0.5  # pixel corners count from the outer edge, voxels from their centres
    return _turned(AffineBox()(_turned(boxes_pixel) - half, matrix)) + half


def _area(box_pixel: Sequence[float]) -> float:
    return (box_pixel[2] - box_pixel[0]) * (box_pixel[3] - box_pixel[1])


def _turned(boxes: torch.Tensor) -> torch.Tensor:
    """x, y -> row, column, the order of MONAI's axes, and back."""
    return boxes[:, [1, 0, 3, 2]]
