"""Finds labelled 3D volumes in a folder; what they hold is read by `cutting.py`.

volumes.json    [{"image": "ct_trunk.nii.gz", "labels": "ct_trunk_labels.nii.gz", "modality": "ct",
                  "classes": {"1": "spleen", "2": "kidney_right"},
                  "dataset": "TotalSegmentator", "case": "s0011"}, ...]

`image` is a volume file (NIfTI, NRRD, MetaImage) or the folder of a DICOM series; `labels` a label
map on the same grid, or a DICOM segmentation (which brings its own classes). `classes` may also
name a JSON file. Without `dataset` the folder's name stands in, without `case` the image's.
Volumes of one patient must have one case, or they may fall on both sides of a split.

A folder without volumes.json that holds DICOM segmentations is read as those: each with the
series that it refers to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bird_training.sources.dicom_seg import find_segmentations
from bird_training.sources.modalities import check_modality
from bird_training.sources.reading import Skipped, inside, stream_list, stream_object
from bird_vlm.errors import BirdError
from bird_vlm.labels import natural_name
from bird_vlm.volumes import SUFFIXES

INDEX_FILE = "volumes.json"
_TAKEN = "{labels}: another volume has this name, too; rename one, or give it another dataset"
_NO_WORD = re.compile(r"[^A-Za-z0-9_.]+")


@dataclass(frozen=True)
class VolumeEntry:
    """One scan and its labels."""

    image: Path  # volume file, or folder of a DICOM series
    labels: Path
    modality: str
    dataset: str
    case: str
    stem: str  # names its slices; unique within its modality and dataset
    classes: tuple[tuple[int, str], ...] = ()  # (value, natural name); () = a DICOM segmentation's


def find_volumes(folder: Path) -> Iterator[VolumeEntry | Skipped]:
    """All labelled volumes of a folder; what cannot be understood is Skipped.

    So is a volume whose slices would be called as those of one before it. Raises BirdError where
    volumes.json is no JSON list.
    """
    names: set[tuple[str, str, str]] = set()
    for found in _all_volumes(folder):
        if isinstance(found, VolumeEntry):
            name = (found.modality, found.dataset, found.stem)
            if name in names:
                yield Skipped(found.stem, _TAKEN.format(labels=found.labels.name))
                continue
            names.add(name)
        yield found


def _all_volumes(folder: Path) -> Iterator[VolumeEntry | Skipped]:
    if (folder / INDEX_FILE).is_file():
        for number, row in enumerate(stream_list(folder / INDEX_FILE), start=1):
            yield _entry(folder, row, f"{INDEX_FILE}, volume {number}")
        return
    dataset = word(folder.resolve().name)
    for found in find_segmentations(folder):
        if isinstance(found, Skipped):
            yield found
            continue
        image, labels, modality, patient = found
        yield VolumeEntry(image, labels, modality, dataset, patient, _name_of(labels, folder))


def _entry(folder: Path, row: Any, origin: str) -> VolumeEntry | Skipped:
    try:
        image = inside(folder, row["image"])
        stem = _name_of(image, folder)
        modality = str(row["modality"]).lower()
        check_modality(modality)
        return VolumeEntry(
            image=image,
            labels=inside(folder, row["labels"]),
            modality=modality,
            dataset=word(str(row.get("dataset") or folder.resolve().name)),
            case=str(row.get("case") or stem.removeprefix(f"{modality}_")),
            stem=stem,
            classes=_classes(folder, row.get("classes", {})),
        )
    except KeyError as error:
        return Skipped(origin, f"lacks {error}; a volume needs image, labels, modality and classes")
    except BirdError as error:
        return Skipped(origin, str(error))
    except (TypeError, ValueError, AttributeError) as error:
        return Skipped(origin, f"is not as volumes.json should be ({error})")


def _classes(folder: Path, told: dict[str, str] | str) -> tuple[tuple[int, str], ...]:
    names = read_classes(inside(folder, told)) if isinstance(told, str) else _by_value(told)
    return tuple(sorted((value, natural_name(name)) for value, name in names.items() if value))


def read_classes(path: Path) -> dict[int, str]:
    """Names by label value from a JSON object such as `{"17": "left_hippocampus"}`.

    Raises BirdError, with the path, where the file holds anything else.
    """
    try:
        return _by_value(dict(stream_object(path)))
    except ValueError as error:
        if isinstance(error, BirdError):
            raise
        raise BirdError(
            f"{path}: is not a JSON object of label values and names ({error})"
        ) from error


def _by_value(table: dict[str, Any]) -> dict[int, str]:
    return {int(value): str(name) for value, name in table.items()}


def _name_of(path: Path, folder: Path) -> str:
    """The path inside the folder, as a word."""
    name = path.relative_to(folder).as_posix()
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), "")
    return word(name.removesuffix(suffix))


def word(name: str) -> str:
    """A name that can be part of a picture's id, whose parts are joined by "--".

    >>> word("TCIA Soft-tissue (IBSI)")
    'TCIA-Soft-tissue-IBSI'
    """
    return re.sub("-{2,}", "-", _NO_WORD.sub("-", name)).strip("-") or "unnamed"
