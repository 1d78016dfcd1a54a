"""Which slices of a scan become pictures, and what these look like: as the product shows them.

A window is automatic, or a preset's by name: a CT's in Hounsfield units, or `suv` for a PET series
with the DICOM tags that SUV needs. Knows nothing about labels or files of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bird_vlm.contract import Plane
from bird_vlm.errors import BirdError
from bird_vlm.slices import SliceStack, slice_stack
from bird_vlm.volumes import Volume, read_volume
from bird_vlm.windows import CT_WINDOWS, Window, automatic_window, slice_picture

SUV = "suv"
WINDOWS: dict[str, Window] = {**CT_WINDOWS, SUV: (5.0, 10.0)}  # HU; SUV 0..10, as FDG is shown
STEP_MM = 5.0  # between kept slices where no step is given: neighbours show nearly the same
_MIN_VISIBLE = 0.02  # share of a slice that is not black


@dataclass(frozen=True)
class ShownSlice:
    """One slice of a scan as a picture."""

    stack: SliceStack
    index: int
    picture: np.ndarray  # uint8 (height, width), or (height, width, 3) in colour

    @property
    def plane(self) -> Plane:
        return self.stack.plane

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The same slice of an array (I, J, K) on the scan's grid."""
        return self.stack.cut(array, self.index)


def shown_slices(
    volume: Volume, window: Window, planes: Sequence[Plane], step: int | None = None
) -> Iterator[ShownSlice]:
    """Every `step`-th slice of each plane where it shows something; one per STEP_MM without it."""
    for plane in planes:
        stack = slice_stack(volume.geometry(), plane)
        every = step or max(1, round(STEP_MM / stack.spacing_mm))
        for index in range(min(every, stack.count) // 2, stack.count, every):
            picture = slice_picture(volume, stack, index, window)
            if (picture > 0).mean() >= _MIN_VISIBLE:
                yield ShownSlice(stack, index, picture)


def read_scan(path: Path, modality: str, preset: str | None = None) -> tuple[Volume, Window]:
    """A scan and the window it is shown in: the automatic one, or one of `WINDOWS`.

    Raises BirdError where the preset is for another modality, and BadVolumeError, with the path,
    for a bad file or a series that tells no SUV.
    """
    if preset is None:
        volume = read_volume(path)
        return volume, automatic_window(volume)
    needed = "pet" if preset == SUV else "ct"
    if modality != needed:
        raise BirdError(
            f"window: {preset!r} is for {needed} and {path} is {modality}; leave the window out, "
            "or build the modalities apart"
        )
    return _reader(preset)(path), WINDOWS[preset]


def _reader(preset: str) -> Callable[[Path], Volume]:
    if preset != SUV:
        return read_volume
    from bird_training.sources.suv import read_suv_volume  # with pydicom, which takes a while

    return read_suv_volume


def check_window(preset: str | None) -> None:
    """Raises BirdError, with the known ones, for a name that is none of `WINDOWS`."""
    if preset is not None and preset not in WINDOWS:
        raise BirdError(f"window: must be one of {', '.join(WINDOWS)}, got {preset!r}")
