"""Reads a folder in the SA-Med2D-20M layout.

SAMed2D_v1.json                     {"images/mr_cmr--ACDC--p01--z_0568.jpg": ["masks/..."], ...}
SAMed2D_v1_class_mapping_id.json    {"ACDC": {"right_ventricle": 0, ...}, ...}
images/<modality>--<dataset>--<case>--<axis>_<index>.<png or jpg>
masks/<same stem>--<class id, 4 digits>_<instance, 3 digits>.png
"""

from __future__ import annotations

import json
from pathlib import Path

from bird_training.records import ObjectRecord, PictureRecord
from bird_vlm.errors import BirdError
from bird_vlm.labels import natural_name

INDEX_FILE = "SAMed2D_v1.json"
CLASSES_FILE = "SAMed2D_v1_class_mapping_id.json"
_UNION_PREFIX = "union_"  # classes that are unions of others


def read_sa_med2d(folder: Path) -> list[PictureRecord]:
    """All pictures of a SA-Med2D-20M folder, in the order of its index.

    Raises BirdError where the index files are missing or name something that they do not define.
    """
    index = _read_json(folder / INDEX_FILE)
    names = _read_names(folder / CLASSES_FILE)
    return [_picture(folder, image, masks, names) for image, masks in index.items()]


def _read_names(path: Path) -> dict[str, dict[int, str]]:
    """Class names by dataset and class id."""
    try:
        return {
            dataset: {class_id: name for name, class_id in classes.items()}
            for dataset, classes in _read_json(path).items()
        }
    except AttributeError as error:
        raise BirdError(f"{path}: is not a table of class ids by dataset ({error})") from error


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BirdError(f"{path}: missing; is this folder in the SA-Med2D-20M layout?") from error
    except ValueError as error:
        raise BirdError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise BirdError(f"{path}: is not a JSON object but a {type(content).__name__}")
    return content


def _picture(
    folder: Path, image: str, masks: list[str], names: dict[str, dict[int, str]]
) -> PictureRecord:
    stem = Path(image).stem
    try:
        modality, dataset, case, _ = stem.split("--")
        objects = tuple(_object(folder, mask, names[dataset]) for mask in sorted(masks))
    except (ValueError, KeyError, TypeError) as error:
        raise BirdError(f"{image}: name or class is not as in SA-Med2D-20M ({error!r})") from error
    return PictureRecord(
        id=stem,
        image=folder / image,
        modality=modality.split("_")[0],
        dataset=dataset,
        case=case,
        objects=tuple(o for o in objects if not o.label.startswith(natural_name(_UNION_PREFIX))),
    )


def _object(folder: Path, mask: str, names: dict[int, str]) -> ObjectRecord:
    class_id = int(Path(mask).stem.rsplit("--", 1)[-1].split("_")[0])
    return ObjectRecord(label=natural_name(names[class_id]), mask=folder / mask)
