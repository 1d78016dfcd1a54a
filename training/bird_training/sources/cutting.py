"""Cuts a labelled volume into pictures and instance maps, as the product cuts slices.

Every connected area of a class on a slice is an instance of its own, as in SA-Med2D-20M. An
instance map is an 8-bit picture whose value k > 0 is the k-th instance. On sagittal slices left and
right cannot be told apart, so the names there have no side. Knows nothing about questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.processing import resample_from_to
from PIL import Image
from scipy import ndimage

from bird_training.records import ObjectRecord, PictureRecord
from bird_training.sources.dicom_seg import Layer, is_segmentation, read_segmentation
from bird_training.sources.volumes import VolumeEntry, word
from bird_vlm.contract import Plane
from bird_vlm.errors import BirdError
from bird_vlm.labels import without_side
from bird_vlm.slices import SliceStack, slice_stack
from bird_vlm.volumes import Volume, read_volume
from bird_vlm.windows import automatic_window, slice_picture

STEP_MM = 5.0  # between kept slices where no step is given: neighbours show nearly the same
_MIN_VISIBLE = 0.02  # share of a slice that is not black
_MIN_PIXELS = 4  # of an area, below which it is noise of the label map, not an instance
_MAX_INSTANCES = 255  # on one map; the largest are kept
_EVERYWHERE = np.ones((3, 3), int)  # areas that touch at a corner are one


def cut_volume(
    entry: VolumeEntry,
    images: Path,
    labels: Path,
    *,
    planes: Sequence[Plane] = ("axial",),
    step: int | None = None,
) -> tuple[list[PictureRecord], tuple[str, ...]]:
    """Writes PNG slices to `images` and instance maps to `labels`.

    Every `step`-th slice of each plane is kept where it shows something; without a step one per
    STEP_MM. Returns a record per slice, and the names of all objects that were looked for. Raises
    BirdError where a file is bad, the label map has another grid, or its classes are not named.
    """
    volume = read_volume(entry.image)
    layers = [_on_grid_of(volume, layer, entry) for layer in _layers(entry)]
    window = automatic_window(volume)
    names = sorted({name for _, classes in layers for name in classes.values()})
    records = []
    for plane in planes:
        stack = slice_stack(volume.geometry(), plane)
        every = step or max(1, round(STEP_MM / stack.spacing_mm))
        for index in range(min(every, stack.count) // 2, stack.count, every):
            picture = slice_picture(volume, stack, index, window)
            if (picture > 0).mean() < _MIN_VISIBLE:
                continue
            parts = (f"{entry.modality}_00", entry.dataset, entry.stem, f"{plane}_{index:04d}")
            stem = "--".join(map(word, parts))
            Image.fromarray(picture).save(images / f"{stem}.png")
            objects = tuple(_write_maps(labels / stem, stack, index, layers))
            records.append(
                PictureRecord(
                    id=stem,
                    image=images / f"{stem}.png",
                    modality=entry.modality,
                    dataset=entry.dataset,
                    case=entry.case,
                    objects=objects,
                    plane=plane,
                )
            )
    return records, tuple(names)


def _layers(entry: VolumeEntry) -> Iterator[Layer]:
    if is_segmentation(entry.labels):
        yield from read_segmentation(entry.labels)
    elif entry.classes:
        yield read_volume(entry.labels), dict(entry.classes)
    else:
        raise BirdError(f"{entry.labels}: has no classes; name them in volumes.json")


def _on_grid_of(
    volume: Volume, layer: Layer, entry: VolumeEntry
) -> tuple[np.ndarray, dict[int, str]]:
    """The label map as integers (I, J, K) on the volume's grid, and the names by value."""
    label_map, names = layer
    if not _same_grid(volume, label_map):
        turned = _turned(label_map, volume)
        if _same_grid(volume, turned):
            label_map = turned
        elif is_segmentation(entry.labels):  # holds only the frames with something on them
            label_map = _resampled(label_map, volume)
        else:
            raise BirdError(f"{entry.labels}: has another grid than {entry.image}; resample it")
    return np.rint(label_map.array).astype(np.int32), names


def _same_grid(volume: Volume, other: Volume) -> bool:
    return volume.array.shape[:3] == other.array.shape and np.allclose(
        volume.ijk_to_ras, other.ijk_to_ras, atol=1e-2
    )


def _turned(label_map: Volume, volume: Volume) -> Volume:
    """The same voxels with the axes in the volume's order and directions."""
    turn = ornt_transform(io_orientation(label_map.ijk_to_ras), io_orientation(volume.ijk_to_ras))
    matrix = label_map.ijk_to_ras @ inv_ornt_aff(turn, label_map.array.shape)
    return Volume(apply_orientation(label_map.array, turn), matrix)


def _resampled(label_map: Volume, volume: Volume) -> Volume:
    image = nibabel.Nifti1Image(label_map.array, label_map.ijk_to_ras)
    target = volume.array.shape[:3], volume.ijk_to_ras
    return Volume(np.asarray(resample_from_to(image, target, order=0).dataobj), volume.ijk_to_ras)


def _write_maps(
    path: Path, stack: SliceStack, index: int, layers: Sequence[tuple[np.ndarray, dict[int, str]]]
) -> Iterator[ObjectRecord]:
    for number, (label_map, names) in enumerate(layers):
        instances, found = instance_map(stack.cut(label_map, index), names)
        if not found:
            continue
        mask = path.with_name(f"{path.name}--{number:03d}.png")
        Image.fromarray(instances).save(mask)
        for value, name in enumerate(found, start=1):
            shown = without_side(name) if stack.plane == "sagittal" else name
            yield ObjectRecord(shown, mask, value)


def instance_map(values: np.ndarray, names: dict[int, str]) -> tuple[np.ndarray, list[str]]:
    """Class values (height, width) -> an instance map, uint8, and the name of each instance."""
    areas: list[tuple[int, str, np.ndarray]] = []
    for value in np.intersect1d(values, list(names)):
        parts, _ = ndimage.label(values == value, _EVERYWHERE)
        sizes = np.bincount(parts.ravel())[1:]
        areas += [
            (int(size), names[int(value)], parts == part)
            for part, size in enumerate(sizes, start=1)
            if size >= _MIN_PIXELS
        ]
    areas = sorted(areas, key=lambda area: -area[0])[:_MAX_INSTANCES]
    instances = np.zeros(values.shape, np.uint8)
    for number, (_, _, area) in enumerate(areas, start=1):
        instances[area] = number
    return instances, [name for _, name, _ in areas]
