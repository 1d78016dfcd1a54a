"""From volume files to training slices, cut and windowed by the product's own functions.

A sample begins as {"volume": path, "label_map": path, "plane", "index", "record"} and ends as one
of `transforms`: `image`, `instances`, `labels`, `record`. What the model sees in training is what
`bird_vlm.volume` shows it at inference, pixel by pixel. Knows nothing about augmentation.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, Transform

from bird_training.transforms.pictures import squeezed, squeezed_instances
from bird_training.transforms.suv import SUV_WINDOW
from bird_vlm.errors import BirdError
from bird_vlm.labels import natural_name, without_side
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume, read_volume
from bird_vlm.windows import CT_WINDOWS, Window, is_ct, slice_picture

PRESETS: dict[str, Window] = {**CT_WINDOWS, "suv": SUV_WINDOW}  # HU, SUV


class LoadVolumed(MapTransform):
    """Paths -> Volumes, read as at inference; raises BadVolumeError with the path."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        read = {key: read_volume(sample[key]) for key in self.key_iterator(dict(sample))}
        return {**sample, **read}


class WindowPresetd(Transform):
    """Sets `window` by a preset's name, or to None, the automatic one.

    Raises BirdError for a name that is none of `PRESETS`.
    """

    def __init__(self, preset: str | None) -> None:
        if preset is not None and preset not in PRESETS:
            raise BirdError(f"preset: must be one of {', '.join(PRESETS)}, got {preset!r}")
        self.preset = preset

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**sample, "window": PRESETS[self.preset] if self.preset else None}


class RandWindowPresetd(RandomizableTransform):
    """A CT comes in any of its windows, as users look at it; all else in the automatic one."""

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__(prob)

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        if not (self._do_transform and is_ct(sample["volume"].array)):
            return {**sample, "window": None}
        windows = list(CT_WINDOWS.values())
        return {**sample, "window": windows[self.R.randint(len(windows))]}


class CutSlice(Transform):
    """Volume and label map -> the picture of one slice and the objects on it.

    `classes` names the values of the label map. Raises BirdError where it has another shape than
    the volume, and BadRequestError where there is no such slice.
    """

    def __init__(self, size: int, classes: Mapping[int, str]) -> None:
        self.size = size
        self.names = {value: natural_name(name) for value, name in classes.items()}

    def __call__(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        volume: Volume = sample["volume"]
        values = sample["label_map"].array
        if values.shape != volume.array.shape:
            raise BirdError(
                f"label_map: has shape {values.shape}, its volume {volume.array.shape}; resample it"
            )
        stack = slice_stack(volume.geometry(), sample["plane"])
        picture = slice_picture(volume, stack, sample["index"], sample.get("window"))
        masks = self._masks(stack.cut(values, sample["index"]), sample["plane"])
        found = squeezed_instances(masks, self.size)
        return {"image": squeezed(picture, self.size), **found, "record": sample["record"]}

    def _masks(self, values: np.ndarray, plane: str) -> list[tuple[str, np.ndarray]]:
        shown = [value for value in np.unique(values).tolist() if value in self.names]
        # a sagittal slice looks the same on both sides
        said = without_side if plane == "sagittal" else str
        return [(said(self.names[value]), values == value) for value in shown]
