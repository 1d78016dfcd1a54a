"""What a dataset shows of the body, and so what is certainly not on its pictures.

An object that nobody annotated may still be there: only what cannot be in the region counts as
absent. Knows nothing about files or tensors.
"""

from __future__ import annotations

from collections.abc import Iterable

from bird_training.records import PictureRecord
from bird_vlm.labels import without_side

REGIONS = {
    "BTCV": "abdomen",
    "LIDC-IDRI": "chest",
    "COVID-CXR": "chest",
    "STS": "soft tissue",
    "ACDC": "heart",
    "LA2018": "heart",
    "FigshareBrainTumor": "brain",
    "BraTS2013": "brain",
    "MSD_Hippocampus": "brain",
    "OASIS": "brain",
    "EndoTect": "bowel",
    "CVC-ClinicDB": "bowel",
    "ISIC2018": "skin",
    "PH2": "skin",
    "DRIONS": "retina",
    "DRIVE": "retina",
    "STARE": "retina",
    "CHASE_DB1": "retina",
    "FH-PS-AOP": "pelvis",
    "BUSI": "breast",
}
# What else may be on a picture of a region, annotated or not: nothing is concluded about that.
_TRUNK = {"abdomen", "chest", "heart", "soft tissue"}
_MAY_SHOW = {
    **dict.fromkeys(_TRUNK, _TRUNK | {"breast", "pelvis", "bowel", "skin"}),
    "breast": {"breast", "soft tissue", "skin"},
    "pelvis": {"pelvis", "soft tissue", "skin"},
}
_ANYWHERE = {"edema", "enhancing tumor"}  # words that are not bound to the region they come from
# Mirror images of these are as plausible as the originals; on "brain" the words change sides.
MIRRORED = {"brain", "bowel", "skin", "retina", "breast", "soft tissue"}
# Datasets whose pictures have no up, down, left or right at all: any quarter turn is as true.
WITHOUT_DIRECTION = {"EndoTect", "CVC-ClinicDB", "ISIC2018", "PH2", "LIDC-IDRI"}
# What a dataset of healthy people certainly lacks, though nobody annotated it.
_HEALTHY = {"OASIS": {"brain tumor", "edema", "enhancing tumor"}}


def region_of(dataset: str) -> str:
    """The body region of a dataset; its own name where it is not known here."""
    return REGIONS.get(dataset, dataset)


class Vocabulary:
    """Which objects each dataset annotates, and which are certainly absent from a picture of it."""

    def __init__(self, records: Iterable[PictureRecord]) -> None:
        self.by_dataset: dict[str, set[str]] = {}
        self.by_modality: dict[str, set[str]] = {}
        for record in records:
            labels = {o.label for o in record.objects}
            self.by_dataset.setdefault(record.dataset, set()).update(labels)
            self.by_modality.setdefault(record.modality, set()).update(labels)

    @property
    def labels(self) -> list[str]:
        """All objects, sorted."""
        return sorted(set().union(*self.by_dataset.values()))

    def near_misses(self, record: PictureRecord) -> list[str]:
        """Objects that this dataset annotates, or that healthy people lack, and not shown here.

        Where the picture does not tell left from right, as sagittal ones, no side is missing.
        """
        shown = {o.label for o in record.objects}
        missing = _HEALTHY.get(record.dataset, set()) & set(self.labels)
        missing |= self.by_dataset[record.dataset] - shown - {without_side(name) for name in shown}
        missing = {name for name in missing if without_side(name) not in shown}
        if record.plane == "sagittal":
            missing = {name for name in missing if without_side(name) == name}
        return sorted(missing)

    def elsewhere(self, dataset: str) -> list[str]:
        """Objects that only other regions of the body have; none where a region is not known."""
        if dataset not in REGIONS:
            return []
        here = region_of(dataset)
        near = _MAY_SHOW.get(here, {here})
        possible = {
            without_side(label)
            for name, labels in self.by_dataset.items()
            if name not in REGIONS or region_of(name) in near
            for label in labels
        }
        possible |= _ANYWHERE
        return [label for label in self.labels if without_side(label) not in possible]
