"""Checkpoints of a training: which are whole, and which one a run goes on from.

transformers' Trainer writes a checkpoint's files one by one under its final name. A list of them
with their sizes, put beside them last, says that all are there; a checkpoint without it, or with a
file of another size, was cut off and is not used. Knows nothing about what the files hold.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from bird_vlm.outputs import write_json

MANIFEST = "complete.json"


def seal(checkpoint: Path) -> None:
    """Say that all files of a checkpoint are on the disk."""
    sizes = {}
    for path in sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.name != MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sizes[path.relative_to(checkpoint).as_posix()] = path.stat().st_size
    write_json(checkpoint / MANIFEST, sizes)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was sealed and its files still have their sizes."""
    try:
        sizes = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints in a folder, whole or not, the oldest first."""
    found = [p for p in folder.glob("checkpoint-*") if p.name.split("-")[1].isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """After how many optimiser steps it was made."""
    return int(checkpoint.name.split("-")[1])


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that is whole."""
    return next((c for c in reversed(checkpoints(folder)) if is_whole(c)), None)


def remove_unfinished(folder: Path) -> list[Path]:
    """Remove checkpoints that were cut off; returns them."""
    broken = [c for c in checkpoints(folder) if not is_whole(c)]
    for checkpoint in broken:
        shutil.rmtree(checkpoint)
    return broken
