"""What a build hangs on, and what it finds in its folder: nothing, a part of itself, or another.

Knows nothing about pictures.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bird_training.building.merge import SIDES, SKIPPED_FILE
from bird_training.sources.detect import Source
from bird_training.writers.options import WriterOptions
from bird_training.writers.prompting import Prompts
from bird_vlm.contract import Plane
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json

REPORT_FILE = "build.json"
REFUSED_FILE = "not_by_llm.jsonl"
SHEET_FILE = "sheet.png"
IMAGES = "images"
WORK = ".build"
_SETTINGS_FILE = "settings.json"
_WRITTEN = (*SIDES, IMAGES, SKIPPED_FILE, REFUSED_FILE, REPORT_FILE, SHEET_FILE, WORK)


@dataclass(frozen=True)
class BuildSettings:
    """What the output hangs on; the engine and the number of workers are not among it."""

    source: Path
    writer: WriterOptions = field(default_factory=WriterOptions)
    test_fraction: float = 0.15
    limit: int | None = None  # pictures; None: all
    slice_step: int | None = None  # None: every slice of a picture folder, one per 5 mm of a volume
    planes: tuple[Plane, ...] = ("axial",)  # to cut volumes in
    modality: str | None = None  # of pictures whose layout does not tell it
    copy_images: bool = False
    seed: int = 0


def clear(out: Path) -> None:
    """Removes what a build left in `out`, finished or not, and nothing else."""
    if not (out / REPORT_FILE).exists() and not (out / WORK).exists():
        return
    for name in _WRITTEN:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def describe(settings: BuildSettings, source: Source) -> dict[str, Any]:
    """All that the output hangs on, as JSON. Raises BirdError where the writer cannot be used."""
    files = [(path.name, *_stamp(path)) for path in source.index]
    return {
        "source": str(source.folder),
        "layout": source.layout,
        "index": [{"file": name, "bytes": size, "changed_ns": t} for name, size, t in files],
        "writer": _describe_writer(settings.writer),
        "test_fraction": settings.test_fraction,
        "limit": settings.limit,
        "slice_step": settings.slice_step,
        "planes": list(settings.planes) if source.volumes else None,
        "modality": settings.modality,
        "copy_images": settings.copy_images,
        "seed": settings.seed,
    }


def _describe_writer(options: WriterOptions) -> dict[str, Any]:
    """What the words hang on, as far as options tell."""
    told = {"kind": options.kind, "absent_questions": options.absent_questions}
    if options.kind == "offline":
        return told
    options.settings()
    Prompts(options.prompts)
    prompts = options.prompts and str(options.prompts.resolve())
    names = ("model", "on_refusal", "temperature", "extra")
    return told | {name: getattr(options, name) for name in names} | {"prompts": prompts}


def _stamp(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise BirdError(f"{path}: missing; is this folder complete?")
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def finished(out: Path, told: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a finished build with these settings."""
    path = out / REPORT_FILE
    if not path.is_file():
        return None
    report = json.loads(path.read_text(encoding="utf-8"))
    _refuse_other(out, report["settings"], told)
    return report


def begin(out: Path, told: dict[str, Any]) -> None:
    """The folder for what is in progress, new or of the same build."""
    path = out / WORK / _SETTINGS_FILE
    if path.is_file():
        _refuse_other(out, json.loads(path.read_text(encoding="utf-8")), told)
        return
    if taken := [name for name in (*SIDES, IMAGES) if (out / name).exists()]:
        raise BirdError(f"{out}: has {taken[0]} from elsewhere; choose a new folder")
    try:
        (out / WORK).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BirdError(f"{out}: cannot be made or written to ({error})") from error
    write_json(path, told)


def _refuse_other(out: Path, before: dict[str, Any], told: dict[str, Any]) -> None:
    changed = [name for name in told if before.get(name) != told[name]]
    if changed:
        name = changed[0]
        raise BirdError(
            f"{out}: holds a build with another {name} ({before.get(name)!r}, now {told[name]!r}); "
            "give the same options, another folder, or --overwrite"
        )
