"""Slices of a labelled 3D volume, deformed at random so that one scan stands for many heads.

The volume is deformed in 3D, before it is cut, so that left and right, and the shapes across
slices, stay anatomical.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Rand3DElasticd, Spacingd
from PIL import Image

from bird_training.records import ObjectRecord, PictureRecord
from bird_training.sources.slicing import shown_slices
from bird_vlm.contract import PLANES
from bird_vlm.errors import BirdError
from bird_vlm.labels import natural_name, without_side
from bird_vlm.volumes import Volume, read_volume
from bird_vlm.windows import automatic_window

_SPACING_MM = 1.5
_MIN_PIXELS = 12  # of an object on a slice, below which it is not asked for


def write_labelled_slices(
    image: Path,
    labels: Path,
    classes: dict[int, str],
    out: Path,
    *,
    dataset: str,
    modality: str,
    copies: int,
    step: int = 3,
    seed: int = 0,
) -> list[PictureRecord]:
    """Cut `copies` deformed copies of a volume into pictures and label maps under `out`.

    `classes` maps label values to names; every `step`-th slice of each plane is kept. Returns one
    record per picture with something in it; each object points at its value in the label map.
    Raises BirdError where the label map has another grid or a value lies outside 1..255.
    """
    volume, label_volume = read_volume(image), read_volume(labels)
    if not _same_grid(volume, label_volume):
        raise BirdError(f"{labels}: has another grid than {image}; resample it first")
    if outside := [value for value in classes if not 0 < value < 256]:
        raise BirdError(f"classes: label values must lie in 1..255, got {outside}")
    sided = {value: natural_name(name) for value, name in classes.items()}
    sideless = {value: without_side(name) for value, name in sided.items()}
    out.mkdir(parents=True, exist_ok=True)
    case = image.name.split(".")[0]
    records = []
    for copy, (scan, label_map) in enumerate(_deformed(volume, label_volume, copies, seed)):
        for shown in shown_slices(scan, automatic_window(scan), PLANES, step):
            plane, values = shown.plane, shown.cut(label_map.array).astype(np.uint8)
            stem = f"{modality}--{dataset}--{case}--{plane}_{copy:02d}_{shown.index:04d}"
            names = sideless if plane == "sagittal" else sided
            objects = _write(out, stem, shown.picture, values, names)
            image = out / f"{stem}.png"
            records.append(
                PictureRecord(stem, image, modality, dataset, case, objects, plane=plane)
            )
    return records


def _same_grid(volume: Volume, other: Volume) -> bool:
    return volume.array.shape == other.array.shape and np.allclose(
        volume.ijk_to_ras, other.ijk_to_ras, atol=1e-2
    )


def _deformed(
    volume: Volume, label_volume: Volume, copies: int, seed: int
) -> Iterator[tuple[Volume, Volume]]:
    affine = torch.as_tensor(volume.ijk_to_ras)
    data = {
        "image": MetaTensor(torch.as_tensor(volume.array)[None], affine=affine),
        "labels": MetaTensor(torch.as_tensor(label_volume.array)[None], affine=affine),
    }
    modes = {"keys": ["image", "labels"], "mode": ["bilinear", "nearest"]}
    data = Spacingd(pixdim=(_SPACING_MM,) * 3, **modes)(data)
    deform = Rand3DElasticd(
        prob=1.0,
        sigma_range=(6, 9),
        magnitude_range=(80, 280),
        rotate_range=(0.2, 0.2, 0.2),
        shear_range=(0.08,) * 6,
        scale_range=(0.15, 0.15, 0.15),
        padding_mode="zeros",
        **modes,
    )
    deform.set_random_state(seed)
    for _ in range(copies):
        deformed = deform(data)  # once: image and labels share the draw
        yield tuple(
            Volume(value[0].numpy().astype(np.float32), value.affine.numpy())
            for value in (deformed["image"], deformed["labels"])
        )


def _write(
    out: Path, stem: str, picture: np.ndarray, values: np.ndarray, names: dict[int, str]
) -> tuple[ObjectRecord, ...]:
    mask = out / f"{stem}--labels.png"
    Image.fromarray(picture).save(out / f"{stem}.png")
    Image.fromarray(np.ascontiguousarray(values)).save(mask)
    found, counts = np.unique(values, return_counts=True)
    shown = [int(v) for v, n in zip(found, counts, strict=True) if v in names and n >= _MIN_PIXELS]
    return tuple(ObjectRecord(names[value], mask, value) for value in shown)
