"""Pictures whose objects are told by boxes alone, without masks: read, augmented, told again.

For conversations as Med-GRIT files hold them. A sample is a dictionary: `image` float (channels,
size, size) in 0..1; `boxes_pixel` float (boxes, 4), x0, y0, x1, y1 in pixels of that image, in the
order in which `texts` write them; `dataset` and `plane` as in a PictureRecord, "" where unknown.

A box says nothing about the shape inside it, so a turned picture would need another box that nobody
knows, and so would an object that is cut at the picture's edge: pictures are scaled, shifted and
mirrored only, and each box stays whole. Where there are masks, `transforms.augmentation` does more.
Knows nothing about tokens or files of conversations.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
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

from bird_training.transforms.pictures import (
    grey_value_changes,
    may_mirror,
    read_slice_picture,
    squeezed,
)
from bird_vlm.boxes import BoxNorm, norm_to_pixel, pixel_to_norm
from bird_vlm.grammar import BOX_END, BOX_START, format_box, parse_grounding
from bird_vlm.labels import mirrored_name

_BOX = re.compile(f"{BOX_START}.*?{BOX_END}", re.DOTALL)
_SIDE = re.compile(r"\b(left|right)(?=\b|-|ward|most|sided)", re.IGNORECASE)
_TRIES = 6  # draws of a scale and shift that keep all boxes, before the picture stays as it is
_TOLERANCE = 0.5  # pixels by which a box may leave the picture and be clipped


class LoadBoxedPicture(Transform):
    """{"image": path, "texts": [...]} -> sample with the boxes that the texts write.

    Raises BirdError for a broken picture, GrammarError for a malformed box.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, told: Mapping[str, Any]) -> dict[str, Any]:
        boxes = [norm_to_pixel(box, self.size, self.size) for box in written_boxes(told["texts"])]
        return {
            "dataset": "",
            "plane": "",
            **told,
            "texts": list(told["texts"]),
            "image": squeezed(read_slice_picture(told["image"]), self.size),
            "boxes_pixel": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        }


class RandMirrorBoxesd(RandomizableTransform):
    """Mirrors picture, boxes and words where that is as true: never where the dataset is unknown.

    In all texts "left" becomes "right" and the reverse, of the patient and of the picture alike.
    """

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__(prob)
        self.flip, self.flip_boxes = Flip(spatial_axis=1), FlipBox(spatial_axis=1)

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(sample)
        self.randomize(None)
        if not (self._do_transform and may_mirror(sample["dataset"], sample["plane"])):
            return result
        boxes, shape = _turned(sample["boxes_pixel"]), sample["image"].shape[1:]
        result["boxes_pixel"] = _turned(self.flip_boxes(boxes, shape))
        result["image"] = self.flip(sample["image"])
        result["texts"] = [mirrored_text(text) for text in sample["texts"]]
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


class TellBoxes(Transform):
    """Writes a sample's boxes into its texts, each in its place."""

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        height, width = sample["image"].shape[-2:]
        told = [pixel_to_norm(tuple(b), width, height) for b in sample["boxes_pixel"].tolist()]
        return {**sample, "texts": with_boxes(sample["texts"], told)}


def box_augmentation(size: int) -> Compose:
    """The random part of training on boxes; texts are rewritten to fit."""
    return Compose(
        [
            ScaleIntensityRanged("image", a_min=0, a_max=255, b_min=0, b_max=1),
            RandMirrorBoxesd(prob=0.5),
            RandAffineBoxesd(
                prob=0.8, scale_range=(-0.25, 0.2), translate_range=(size * 0.06,) * 2
            ),
            *grey_value_changes(),
            TellBoxes(),
        ]
    )


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


def written_boxes(texts: Sequence[str]) -> list[BoxNorm]:
    """The boxes that texts write, in reading order. Raises GrammarError for a malformed one.

    >>> written_boxes(["Where is it?", "<ref>liver</ref><box>(1,2),(30,400)</box>"])
    [(1, 2, 30, 400)]
    """
    return [parse_grounding(box).boxes_norm[0] for text in texts for box in _BOX.findall(text)]


def with_boxes(texts: Sequence[str], boxes_norm: Sequence[BoxNorm]) -> list[str]:
    """The texts with other boxes in the same places; there must be as many as places."""
    places = sum(len(_BOX.findall(text)) for text in texts)
    if places != len(boxes_norm):
        raise ValueError(f"boxes_norm: the texts have {places} places, got {len(boxes_norm)}")
    fresh = iter(boxes_norm)
    return [_BOX.sub(lambda _: format_box(next(fresh)), text) for text in texts]


def mirrored_text(text: str) -> str:
    """A sentence about a picture as it reads once the picture is mirrored.

    >>> mirrored_text("Left hippocampus, at the far right; leftmost third")
    'Right hippocampus, at the far left; rightmost third'
    """
    return _SIDE.sub(_other_side, text)


def _other_side(match: re.Match[str]) -> str:
    other = mirrored_name(match[0].lower())
    if match[0].isupper():
        return other.upper()
    return other.capitalize() if match[0][0].isupper() else other


def _turned(boxes: torch.Tensor) -> torch.Tensor:
    """x, y -> row, column, the order of MONAI's axes, and back."""
    return boxes[:, [1, 0, 3, 2]]
