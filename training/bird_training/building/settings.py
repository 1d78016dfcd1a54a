"""What a build hangs on, and what it finds in its folder: nothing, a part of itself, or another.

Knows nothing about pictures.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bird_training.building.merge import SIDES, SKIPPED_FILE
from bird_training.sources.detect import Source
from bird_training.sources.slicing import check_window
from bird_training.writers.options import WriterOptions
from bird_training.writers.prompting import Prompts
from bird_vlm.contract import Plane
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json

REPORT_FILE = "build.json"
REFUSED_FILE = "not_by_llm.jsonl"
SHEET_FILE = "sheet.png"
IMAGES = "images"
AUGMENTED = "augmented"  # copies of the pictures of the train side
WORK = ".build"
_SETTINGS_FILE = "settings.json"
_OWN_KEYS = frozenset({"source", "layout", "index", "writer", "test_fraction", "seed"})
_REPORT_KEYS = frozenset({"settings", "found", "taken", "skipped", "sides"})
_BLOCK = 2**20  # bytes
_WRITTEN = (*SIDES, IMAGES, AUGMENTED, SKIPPED_FILE, REFUSED_FILE, REPORT_FILE, SHEET_FILE, WORK)


@dataclass(frozen=True)
class BuildSettings:
    """What the output hangs on; the engine and the number of workers are not among it."""

    source: Path
    writer: WriterOptions = field(default_factory=WriterOptions)
    test_fraction: float = 0.15
    limit: int | None = None  # pictures; None: all
    slice_step: int | None = None  # None: every slice of a picture folder, one per 5 mm of a volume
    planes: tuple[Plane, ...] = ("axial",)  # to cut volumes in
    window: str | None = None  # of volumes, by a name of `slicing.WINDOWS`; None: automatic
    modality: str | None = None  # of pictures whose layout does not tell it
    augment: int = 0  # augmented copies of each picture of the train side
    copy_images: bool = False
    seed: int = 0


def clear(out: Path) -> None:
    """Removes what a build left in `out`, finished or not, and nothing else.

    Raises BirdError, with nothing removed, where none of our files there tells of a build.
    """
    report, begun = out / REPORT_FILE, out / WORK / _SETTINGS_FILE
    if not report.exists() and not begun.exists():
        return
    if not _is_of_a_build(out):
        path = report if report.exists() else begun
        raise BirdError(f"{path}: is not of a build, so nothing was removed; give another folder")
    for name in _WRITTEN:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def describe(settings: BuildSettings, source: Source) -> dict[str, Any]:
    """All that the output hangs on, as JSON.

    Raises BirdError where the writer or the window cannot be used, or an index file is missing.
    """
    check_window(settings.window)
    if settings.window and not source.volumes:
        raise BirdError(
            f"window: {source.folder} holds pictures ({source.layout}), which have their windows "
            "already; leave it out"
        )
    return {
        "source": str(source.folder),
        "layout": source.layout,
        "index": [_stamp(path) for path in source.index],
        "writer": _describe_writer(settings.writer),
        "test_fraction": settings.test_fraction,
        "limit": settings.limit,
        "slice_step": settings.slice_step,
        "planes": list(settings.planes) if source.volumes else None,
        "window": settings.window,
        "modality": settings.modality,
        "augment": settings.augment,
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


def _stamp(path: Path) -> dict[str, Any]:
    """By content: a copy of a file is the same, and one replaced within a tick of the clock not."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except FileNotFoundError as error:
        raise BirdError(f"{path}: missing; is this folder complete?") from error
    except OSError as error:
        raise BirdError(f"{path}: cannot be read ({error})") from error
    return {"file": path.name, "bytes": size, "sha256": digest.hexdigest()}


def finished(out: Path, told: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a finished build with these settings.

    Raises BirdError where it has others, or cannot be understood.
    """
    path = out / REPORT_FILE
    if not path.is_file():
        return None
    report = _checked(_read_report, out, path)
    _refuse_other(out, report["settings"], told)
    return report


def begin(out: Path, told: dict[str, Any]) -> None:
    """The folder for what is in progress, new or of the same build.

    Raises BirdError where it is of another build or none, or cannot be made.
    """
    path = out / WORK / _SETTINGS_FILE
    if path.is_file():
        _refuse_other(out, _checked(_read_settings, out, path), told)
        return
    if _holds_others(out / WORK):
        raise BirdError(f"{out / WORK}: is from elsewhere; choose a new folder")
    if taken := [name for name in (*SIDES, IMAGES, AUGMENTED) if (out / name).exists()]:
        raise BirdError(f"{out}: has {taken[0]} from elsewhere; choose a new folder")
    try:
        (out / WORK).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BirdError(f"{out}: cannot be made or written to ({error})") from error
    write_json(path, told)


def _is_of_a_build(out: Path) -> bool:
    """Whether one of our files in `out` is one that a build wrote."""
    for read in (_read_report, _read_settings):
        try:
            read(out)
        except (OSError, ValueError, RecursionError):
            continue
        return True
    return False


def _checked(read: Callable[[Path], dict[str, Any]], out: Path, path: Path) -> dict[str, Any]:
    """What `read` reads from `path`; raises BirdError where that is not as a build leaves it."""
    try:
        return read(out)
    except (OSError, ValueError, RecursionError) as error:
        remedy = "another folder, or --overwrite" if _is_of_a_build(out) else "another folder"
        raise BirdError(f"{path}: is not as a build leaves it ({error}); give {remedy}") from error


def _read_report(out: Path) -> dict[str, Any]:
    report = _read(out / REPORT_FILE, _REPORT_KEYS)
    _check_keys(report["settings"], _OWN_KEYS)
    return report


def _read_settings(out: Path) -> dict[str, Any]:
    return _read(out / WORK / _SETTINGS_FILE, _OWN_KEYS)


def _read(path: Path, keys: frozenset[str]) -> dict[str, Any]:
    """Raises OSError, ValueError or RecursionError where it is no JSON object with these keys."""
    told = json.loads(path.read_text(encoding="utf-8"))
    _check_keys(told, keys)
    return told


def _check_keys(told: Any, keys: frozenset[str]) -> None:
    if not isinstance(told, dict):
        raise ValueError("no JSON object")
    if lacking := sorted(keys - told.keys()):
        raise ValueError(f"lacks {', '.join(lacking)}")


def _holds_others(work: Path) -> bool:
    """Whether there is more than what is left of settings that were being written."""
    return work.is_dir() and any(not p.name.endswith(".unfinished") for p in work.iterdir())


def _refuse_other(out: Path, before: dict[str, Any], told: dict[str, Any]) -> None:
    changed = [name for name in told if before.get(name) != told[name]]
    if changed:
        name = changed[0]
        raise BirdError(
            f"{out}: holds a build with another {name} ({before.get(name)!r}, now {told[name]!r}); "
            "give the same options, another folder, or --overwrite"
        )
