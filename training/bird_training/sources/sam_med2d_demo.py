"""Reads a folder in the layout of SAM-Med2D's demo.

image2label_train.json   {"data_demo/images/amos_0006_90.png":
                              ["data_demo/masks/amos_0006_90_liver_000.png", ...], ...}
label2image_test.json    {"data_demo/masks/amos_0004_75_aorta_000.png":
                              "data_demo/images/amos_0004_75.png", ...}
images/<case>_<index>.png
masks/<case>_<index>_<object>_<instance, 3 digits>.png

The layout tells no modality; it is known for AMOS and TotalSegmentator, and given otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bird_training.records import ObjectRecord, PictureRecord
from bird_training.sources.reading import Skipped, inside, stream_object
from bird_vlm.errors import BirdError
from bird_vlm.labels import natural_name

TRAIN_FILE = "image2label_train.json"
TEST_FILE = "label2image_test.json"
_LAST_AMOS_CT = 500  # AMOS numbers its CT scans up to here, its MR scans from here on
_AMOS = re.compile(r"amos_(\d+)")
_TOTAL_SEGMENTATOR = re.compile(r"s\d{4}")
_INSTANCE = re.compile(r"_\d{3}$")


def stream_sam_med2d_demo(
    folder: Path, modality: str | None = None
) -> Iterator[PictureRecord | Skipped]:
    """All pictures of both index files, one by one.

    `modality` is that of the cases whose name does not tell it. An entry that cannot be understood
    is Skipped. Raises BirdError where an index file is no JSON object.
    """
    for image, masks in _entries(folder):
        try:
            yield _picture(folder, image, masks, modality)
        except BirdError as error:
            yield Skipped(image, str(error))
        except (ValueError, TypeError, AttributeError) as error:
            yield Skipped(image, f"name is not as in SAM-Med2D's demo ({error!r})")


def _entries(folder: Path) -> Iterator[tuple[str, list[str]]]:
    if (folder / TRAIN_FILE).is_file():
        yield from stream_object(folder / TRAIN_FILE)
    if (folder / TEST_FILE).is_file():
        masks: dict[str, list[str]] = {}
        for mask, image in stream_object(folder / TEST_FILE):
            masks.setdefault(image, []).append(mask)
        yield from masks.items()


def _picture(folder: Path, image: str, masks: list[str], modality: str | None) -> PictureRecord:
    stem = Path(image).stem
    case, _, index = stem.rpartition("_")
    if not case or not index.isdigit():
        raise ValueError(f"no <case>_<index> in {stem!r}")
    dataset, known = _origin(case)
    modality = known or modality
    if modality is None:
        raise BirdError("its name tells no modality; give --modality")
    return PictureRecord(
        id=f"{modality}_00--{dataset}--{case}--slice_{int(index):04d}",
        image=_here(folder, image),
        modality=modality,
        dataset=dataset,
        case=case,
        objects=tuple(_object(folder, mask, stem) for mask in sorted(masks)),
    )


def _origin(case: str) -> tuple[str, str | None]:
    """(data set, modality where it is known) of a case."""
    if amos := _AMOS.fullmatch(case):
        return "AMOS", "ct" if int(amos[1]) <= _LAST_AMOS_CT else "mr"
    if _TOTAL_SEGMENTATOR.fullmatch(case):
        return "TotalSegmentator", "ct"
    return re.split(r"[_\d]", case, maxsplit=1)[0] or "unnamed", None


def _object(folder: Path, mask: str, stem: str) -> ObjectRecord:
    name = Path(mask).stem
    if not name.startswith(f"{stem}_") or not _INSTANCE.search(name):
        raise ValueError(f"{name!r} is no mask of {stem!r}")
    label = _INSTANCE.sub("", name.removeprefix(f"{stem}_"))
    return ObjectRecord(natural_name(label), _here(folder, mask))


def _here(folder: Path, name: str) -> Path:
    """The file, whose name may begin with what the folder was called where the index was made."""
    path = inside(folder, name)
    shortened = inside(folder, name.partition("/")[2] or name)
    return path if path.exists() or not shortened.exists() else shortened
