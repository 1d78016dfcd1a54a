"""Cuts a labelled volume into pictures and instance maps.

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

from bird_training.masks import connected_areas
from bird_training.records import ObjectRecord, PictureRecord
from bird_training.sources.dicom_seg import Layer, is_segmentation, read_segmentation
from bird_training.sources.slicing import ShownSlice, read_scan, shown_slices
from bird_training.sources.volumes import VolumeEntry, word
from bird_vlm.contract import Plane
from bird_vlm.errors import BirdError
from bird_vlm.labels import without_side
from bird_vlm.volumes import Volume, read_volume

_MAX_INSTANCES = 255  # on one map; the largest are kept


def cut_volume(
    entry: VolumeEntry,
    images: Path,
    labels: Path,
    *,
    planes: Sequence[Plane] = ("axial",),
    step: int | None = None,
    window: str | None = None,
) -> tuple[list[PictureRecord], tuple[str, ...]]:
    """Writes PNG slices to `images` and instance maps to `labels`.

    `step` and `window` are as in `slicing`. Returns a record per slice, and the names of all
    objects that were looked for. Raises BirdError where a file is bad, the window does not fit, the
    label map has another grid, or its classes are not named.
    """
    volume, shown_in = read_scan(entry.image, entry.modality, window)
    layers = [_on_grid_of(volume, layer, entry) for layer in _layers(entry)]
    names = sorted({name for _, classes in layers for name in classes.values()})
    records = []
    for shown in shown_slices(volume, shown_in, planes, step):
        position = f"{shown.plane}_{shown.index:04d}"
        parts = (f"{entry.modality}_00", entry.dataset, entry.stem, position)
        stem = "--".join(map(word, parts))
        Image.fromarray(shown.picture).save(images / f"{stem}.png")
        records.append(
            PictureRecord(
                id=stem,
                image=images / f"{stem}.png",
                modality=entry.modality,
                dataset=entry.dataset,
                case=entry.case,
                objects=tuple(_write_maps(labels / stem, shown, layers)),
                plane=shown.plane,
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
    path: Path, shown: ShownSlice, layers: Sequence[tuple[np.ndarray, dict[int, str]]]
) -> Iterator[ObjectRecord]:
    for number, (label_map, names) in enumerate(layers):
        instances, found = instance_map(shown.cut(label_map), names)
        if not found:
            continue
        mask = path.with_name(f"{path.name}--{number:03d}.png")
        Image.fromarray(instances).save(mask)
        for value, name in enumerate(found, start=1):
            said = without_side(name) if shown.plane == "sagittal" else name
            yield ObjectRecord(said, mask, value)


def instance_map(values: np.ndarray, names: dict[int, str]) -> tuple[np.ndarray, list[str]]:
    """Class values (height, width) -> an instance map, uint8, and the name of each instance."""
    areas = [
        (names[int(value)], area)
        for value in np.intersect1d(values, list(names))
        for area in connected_areas(values == value)
    ]
    areas = sorted(areas, key=lambda named: -np.count_nonzero(named[1]))[:_MAX_INSTANCES]
    instances = np.zeros(values.shape, np.uint8)
    for number, (_, area) in enumerate(areas, start=1):
        instances[area] = number
    return instances, [name for name, _ in areas]
