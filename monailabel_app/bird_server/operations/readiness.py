"""Whether this server can do its work now: the model, the store, the room on the disk.

Reasons are for whoever runs the server and hold no paths. Knows nothing about HTTP.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from bird_server.service import Service
from bird_vlm.errors import BirdError

FLOOR_VARIABLE = "BIRD_DISK_FLOOR_BYTES"
DEFAULT_FLOOR_BYTES = 512 << 20


def floor_from_environment() -> int:
    """Free bytes below which the server is not ready. Raises BirdError for what is no number."""
    floor = os.environ.get(FLOOR_VARIABLE) or str(DEFAULT_FLOOR_BYTES)
    if not floor.isdecimal():
        raise BirdError(f"{FLOOR_VARIABLE}: needs a number of bytes, got {floor!r}")
    return int(floor)


def reasons_against(service: Service | None, floor_bytes: int) -> list[str]:
    """Why the server should get no requests; empty when it is ready. Touches the disk."""
    if service is None:
        return ["the server has not started yet"]
    reasons = [] if service.is_loaded else ["no model is loaded"]
    folder = service.store.folder
    if not can_write(folder):
        return [*reasons, "the store cannot be written to"]
    free = shutil.disk_usage(folder).free
    if free < floor_bytes:
        reasons.append(f"the disk has {free} bytes left, below the floor of {floor_bytes}")
    return reasons


def can_write(folder: Path) -> bool:
    """Whether a file can be made and written in `folder`."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
        return True
    except OSError:
        return False
