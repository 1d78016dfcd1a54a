"""Which kind of source a folder is.

Knows how each kind is recognised, not how it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bird_training.records import PictureRecord
from bird_training.sources import sa_med2d, sam_med2d_demo, volumes
from bird_training.sources.dicom_seg import holds_segmentations
from bird_training.sources.reading import Skipped
from bird_vlm.errors import BirdError

_RELEASED = ("VG.json", "ROC.json", "RO.json", "RC.json", "GC.json", "MIA.json", "MII.json")


@dataclass(frozen=True)
class Source:
    """A folder whose layout is known. It has pictures, or volumes to cut pictures from."""

    layout: str  # for people
    folder: Path
    index: tuple[Path, ...]  # the files that say what is in it
    pictures: Callable[[], Iterator[PictureRecord | Skipped]] | None = None
    volumes: Callable[[], Iterator[volumes.VolumeEntry | Skipped]] | None = None


def detect(folder: Path, modality: str | None = None) -> Source:
    """The source in a folder.

    `modality` is that of pictures whose layout does not tell it. Raises BirdError, naming what was
    looked for, where the folder is missing or of no known kind.
    """
    if not folder.is_dir():
        raise BirdError(f"{folder}: no such folder; give one with pictures and masks")
    present = partial(_present, folder)
    if index := present(sa_med2d.INDEX_FILE):
        read = partial(sa_med2d.stream_sa_med2d, folder)
        classes = folder / sa_med2d.CLASSES_FILE
        return Source("SA-Med2D-20M", folder, (*index, classes), pictures=read)
    if index := present(sam_med2d_demo.TRAIN_FILE, sam_med2d_demo.TEST_FILE):
        read = partial(sam_med2d_demo.stream_sam_med2d_demo, folder, modality)
        return Source("SAM-Med2D demo", folder, index, pictures=read)
    find = partial(volumes.find_volumes, folder)
    if index := present(volumes.INDEX_FILE):
        return Source("labelled volumes", folder, index, volumes=find)
    if present(*_RELEASED) or present(*(f"train/{name}" for name in _RELEASED)):
        raise BirdError(
            f"{folder}: holds Med-GRIT questions already; give it to medgrit train or evaluate"
        )
    if holds_segmentations(folder):
        return Source("DICOM segmentations", folder, (), volumes=find)
    raise BirdError(
        f"{folder}: is of no known layout; looked for {sa_med2d.INDEX_FILE} (SA-Med2D-20M), "
        f"{sam_med2d_demo.TRAIN_FILE} or {sam_med2d_demo.TEST_FILE} (SAM-Med2D demo), "
        f"{volumes.INDEX_FILE} (labelled volumes, see medgrit build --help) and DICOM segmentations"
    )


def _present(folder: Path, *names: str) -> tuple[Path, ...]:
    return tuple(folder / name for name in names if (folder / name).is_file())
