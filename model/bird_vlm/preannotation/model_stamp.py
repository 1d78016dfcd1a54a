"""Tells one model from another by its files, without reading gigabytes.

Knows nothing about networks.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_WHOLE = 2**24  # bytes; larger files are looked at in samples
_SAMPLES, _SAMPLE = 64, 2**16
_IGNORED = (".md", ".lock", ".png")


def model_stamp(folder: Path) -> str:
    """Changes with a model's settings, tokenizer or weights.

    Of files above 16 MiB the size and 64 pieces of 64 KiB count: training changes weights
    everywhere. Raises OSError.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in _IGNORED and not path.name.startswith("."):
            hasher.update(f"{path.name}:{path.stat().st_size}:".encode())
            _look_at(path, hasher)
    return hasher.hexdigest()


def _look_at(path: Path, hasher: hashlib.blake2b) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= _WHOLE:
            hasher.update(stream.read())
            return
        for number in range(_SAMPLES):
            stream.seek(number * (size - _SAMPLE) // (_SAMPLES - 1))
            hasher.update(stream.read(_SAMPLE))
