"""Which weights answered: a fingerprint of a model's folder. Knows nothing about their format."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bird_server.review.errors import ReviewError

_TELLING = (".safetensors", ".bin", ".json", ".tiktoken", ".txt", ".model", ".py")
_CHUNK_BYTES = 1 << 20
DIGITS = 16


def fingerprint(folder: Path) -> str:
    """16 hex digits that change with any weight, setting or token of the model in `folder`.

    Reads every byte of it: about a second per GB, so ask once per load. Raises ReviewError where
    the folder holds no model.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in _TELLING)
    if not files:
        raise ReviewError(f"{folder}: holds no weights to tell apart; name a model's folder")
    hasher = hashlib.blake2b(digest_size=DIGITS // 2)
    for path in files:
        hasher.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
    return hasher.hexdigest()
