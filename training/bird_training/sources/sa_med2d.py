"""Reads a folder in the SA-Med2D-20M layout.

SAMed2D_v1.json                     {"images/mr_cmr--ACDC--p01--z_0568.jpg": ["masks/..."], ...}
SAMed2D_v1_class_mapping_id.json    {"ACDC": {"right_ventricle": 0, ...}, ...}
images/<modality>--<dataset>--<case>--<axis>_<index>.<png or jpg>
masks/<same stem>--<class id, 4 digits>_<instance, 3 digits>.png
"""

from __future__ import annotations

import json
from pathlib import Path

from bird_vlm.errors import BirdError
from bird_vlm.labels import natural_name

from bird_training.records import ObjectRecord, PictureRecord

INDEX_FILE = "SAMed2D_v1.json"
CLASSES_FILE = "SAMed2D_v1_class_mapping_id.json"
_UNION_PREFIX = "union_"  # classes that are unions of others


def read_sa_med2d(folder: Path) -> list[PictureRecord]:
    """All pictures of a SA-Med2D-20M folder, in the order of its index.

    Raises BirdError where the index files are missing or name something that they do not define.
    """
    index = _read_json(folder / INDEX_FILE)
    names = {
        dataset: {class_id: name for name, class_id in classes.items()}
        for dataset, classes in _read_json(folder / CLASSES_FILE).items()
    }
    return [_picture(folder, image, masks, names) for image, masks in index.items()]


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BirdError(f"{path}: missing; is this folder in the SA-Med2D-20M layout?") from error
    except ValueError as error:
        raise BirdError(f"{path}: is not valid JSON ({error})") from error


def _picture(
    folder: Path, image: str, masks: list[str], names: dict[str, dict[int, str]]
) -> PictureRecord:
    stem = Path(image).stem
    try:
        modality, dataset, case, _ = stem.split("--")
        objects = tuple(_object(folder, mask, names[dataset]) for mask in sorted(masks))
    except (ValueError, KeyError) as error:
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
    class_id = int(Path(mask).stem.rsplit("--", 1)[1].split("_")[0])
    return ObjectRecord(label=natural_name(names[class_id]), mask=folder / mask)
