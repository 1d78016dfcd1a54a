"""The volumes that `volume_iou.py` is run on, and whether the training has seen their patients.

A folder holds a `volumes.json`, a list of
    {"image": "ct.nii.gz", "labels": "ct_seg.nii.gz", "modality": "ct", "classes": {"5": "liver"}}

Knows nothing about models or scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from bird_vlm.console import progress
from bird_vlm.errors import BadRequestError, BadVolumeError
from bird_vlm.labels import natural_name

INDEX = "volumes.json"
# Objects that a volume's classes make up together, where it has them all.
UNIONS = {"brain tumor": ("necrosis", "edema", "non enhancing tumor", "enhancing tumor")}
# The patient of a volume as SA-Med2D names it, by dataset; `*` ends a shortened name.
CASES = {
    "ct_sts_001": ("STS", "STS_001"),
    "mr_sts_001": ("STS", "STS_001"),
    "pet_sts_001": ("STS", "STS_001"),
    "ct_sts_002": ("STS", "STS_002"),
    "mr_sts_002": ("STS", "STS_002"),
    "pet_sts_002": ("STS", "STS_002"),
    "mr_atrium_06sr5r": ("LA2018", "06SR5R*"),
    "mr_atrium_23x6sy": ("LA2018", "23X6SY*"),
    "mr_atrium_2xl5hs": ("LA2018", "2XL5HS*"),
    "mr_atrium_3c2qtu": ("LA2018", "3C2QTU*"),
    "mr_brain_pat0001_flair": ("BraTS2013", "brats_2013_pat0001_1"),
}

Cases = set[tuple[str, str]]  # dataset, case


@dataclass(frozen=True)
class LabelledVolume:
    """One line of `volumes.json`."""

    image: Path
    labels: Path
    modality: str  # "" where nobody said
    classes: dict[int, str]  # by label value

    @property
    def name(self) -> str:
        return self.image.name.split(".")[0]

    @property
    def objects(self) -> set[str]:
        """Natural names of all that the label map may tell."""
        named = {natural_name(name) for name in self.classes.values()}
        return named | {whole for whole, parts in UNIONS.items() if named >= set(parts)}

    def masks(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Bool (I, J, K) by natural name, with the unions that the classes make up."""
        masks = {natural_name(name): values == value for value, name in self.classes.items()}
        for whole in self.objects - masks.keys():
            masks[whole] = np.logical_or.reduce([masks[part] for part in UNIONS[whole]])
        return masks

    def is_among(self, cases: Cases) -> bool:
        """Whether the volume's patient is one of `cases`."""
        if self.name not in CASES:
            return False
        dataset, pattern = CASES[self.name]
        return any(fnmatchcase(case, pattern) for source, case in cases if source == dataset)


def read_index(
    folder: Path, only: Iterable[str] = (), left_out: Iterable[str] = ()
) -> list[LabelledVolume]:
    """The volumes that a folder's index describes, by their names.

    Raises BadVolumeError where the index is missing or broken, BadRequestError where a name in
    `only` is not in it.
    """
    path = folder / INDEX
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))
        items = [
            LabelledVolume(
                image=folder / line["image"],
                labels=folder / line["labels"],
                modality=line["modality"],
                classes={int(value): name for value, name in line["classes"].items()},
            )
            for line in lines
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadVolumeError(f"{path}: is no list of labelled volumes ({error!r})") from error
    names = [item.name for item in items]
    if unknown := [name for name in only if name not in names]:
        raise BadRequestError(
            f"only: {', '.join(unknown)} not in {path}; it has {', '.join(names)}"
        )
    wanted = set(only or names) - set(left_out)
    return [item for item in items if item.name in wanted]


def read_classes(given: str) -> dict[int, str]:
    """Names by label value from JSON, or from a file with JSON. Raises BadRequestError."""
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
        return {int(value): str(name) for value, name in json.loads(text).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BadRequestError(
            f"classes: need a JSON object of label values and names, got {given!r} ({error})"
        ) from error


def training_cases(source: Path, test_fraction: float) -> Cases:
    """The patients that `medgrit pretrain SOURCE --test-fraction F` trains on."""
    from bird_training.sources.sa_med2d import read_sa_med2d
    from bird_training.splits import split_by_case
    from bird_training.twins import find_twins

    records = read_sa_med2d(source)
    with progress("looking for near-duplicates") as show:
        twins = find_twins(records, on_picture=show)
    train_side, _ = split_by_case(records, test_fraction, twins)
    return {(record.dataset, record.case) for record in train_side}
