"""Reads a folder in the SA-Med2D-20M layout.

SAMed2D_v1.json                     {"images/mr_cmr--ACDC--p01--z_0568.jpg": ["masks/..."], ...}
SAMed2D_v1_class_mapping_id.json    {"ACDC": {"right_ventricle": 0, ...}, ...}
images/<modality>--<dataset>--<case>--<axis>_<index>.<png or jpg>
masks/<same stem>--<class id, 4 digits>_<instance, 3 digits>.png
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bird_training.records import ObjectRecord, PictureRecord
from bird_training.sources.reading import Skipped, inside, stream_object
from bird_vlm.errors import BirdError
from bird_vlm.labels import natural_name

INDEX_FILE = "SAMed2D_v1.json"
CLASSES_FILE = "SAMed2D_v1_class_mapping_id.json"
_UNION_PREFIX = "union_"  # classes that are unions of others
# The axes are the array's. Only CT and PET are always stored with the third one along the body.
_PLANES = {"x": "sagittal", "y": "coronal", "z": "axial"}
_AXES_ARE_PLANES = ("ct", "pet")
# Cases that are parts of one patient: nodules of LIDC-IDRI, scans of BraTS.
_PART_OF_PATIENT = re.compile(r"(?<=^LIDC-IDRI-\d{4})-nodule-\d+$|(?<=_pat\d{4})_\d+$")

Names = dict[str, dict[int, str]]


def read_sa_med2d(folder: Path) -> list[PictureRecord]:
    """All pictures of a SA-Med2D-20M folder, in the order of its index.

    Raises BirdError where the index files are missing or name something that they do not define.
    """
    records = []
    for found in stream_sa_med2d(folder):
        if isinstance(found, Skipped):
            raise BirdError(f"{found.name}: {found.reason}")
        records.append(found)
    return records


def stream_sa_med2d(folder: Path) -> Iterator[PictureRecord | Skipped]:
    """The same one by one, for an index of millions; an entry that cannot be understood is Skipped.

    Raises BirdError where an index file is missing or no JSON object.
    """
    names = _read_names(folder / CLASSES_FILE)
    for image, masks in stream_object(folder / INDEX_FILE):
        try:
            yield _picture(folder, image, masks, names)
        except BirdError as error:
            yield Skipped(image, str(error))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            yield Skipped(image, f"name or class is not as in SA-Med2D-20M ({error!r})")


def _read_names(path: Path) -> Names:
    """Class names by dataset and class id."""
    try:
        return {
            dataset: {int(class_id): name for name, class_id in classes.items()}
            for dataset, classes in stream_object(path)
        }
    except (AttributeError, TypeError) as error:
        raise BirdError(f"{path}: is not a table of class ids by dataset ({error})") from error


def _picture(folder: Path, image: str, masks: list[str], names: Names) -> PictureRecord:
    stem = Path(image).stem
    modality, dataset, case, position = stem.split("--")
    modality = modality.split("_")[0]
    objects = tuple(_object(folder, mask, names[dataset]) for mask in sorted(masks))
    return PictureRecord(
        id=stem,
        image=inside(folder, image),
        modality=modality,
        dataset=dataset,
        case=_PART_OF_PATIENT.sub("", case),
        objects=tuple(o for o in objects if not o.label.startswith(natural_name(_UNION_PREFIX))),
        plane=_PLANES.get(position.split("_")[0], "") if modality in _AXES_ARE_PLANES else "",
    )


def _object(folder: Path, mask: str, names: dict[int, str]) -> ObjectRecord:
    class_id = int(Path(mask).stem.rsplit("--", 1)[-1].split("_")[0])
    return ObjectRecord(label=natural_name(names[class_id]), mask=inside(folder, mask))
