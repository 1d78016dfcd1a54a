"""Uploaded volumes on disk, each under the SHA-256 of its bytes.

The same bytes are stored once. An upload grows under `incoming/` and is renamed when it is whole,
so that a half-written file never looks finished. Knows nothing about voxels or HTTP.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bird_vlm.errors import BirdError

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm", ".png", ".jpg", ".jpeg")
LIMIT_VARIABLE = "BIRD_UPLOAD_BYTES"
DEFAULT_LIMIT_BYTES = 2 << 30
_VOLUME_ID = re.compile(r"[0-9a-f]{64}")


class BadNameError(BirdError):
    """A file name that is a path, has odd characters or an unknown suffix."""


class TooLargeError(BirdError):
    """More bytes than the store takes."""


class UnknownVolumeError(BirdError):
    """A volume id that is not in the store."""


def limit_from_environment() -> int:
    """The largest upload in bytes. Raises BirdError where BIRD_UPLOAD_BYTES is no number."""
    limit_bytes = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_BYTES)
    if not limit_bytes.isdecimal():
        raise BirdError(f"{LIMIT_VARIABLE}: needs a number of bytes, got {limit_bytes!r}")
    return int(limit_bytes)


class Upload:
    """A volume that is still arriving."""

    def __init__(self, name: str, path: Path, file: BinaryIO, limit_bytes: int) -> None:
        self.name = name  # as the sender calls it
        self.path = path
        self._file = file
        self._limit_bytes = limit_bytes
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    @property
    def volume_id(self) -> str:
        """SHA-256 of the bytes so far, in hex."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Appends `chunk`; raises TooLargeError above the limit."""
        self._size_bytes += len(chunk)
        if self._size_bytes > self._limit_bytes:
            raise TooLargeError(f"upload: at most {self._limit_bytes} bytes are taken")
        self._digest.update(chunk)
        self._file.write(chunk)

    def flush(self) -> None:
        """Makes every byte so far readable under `path` and safe from a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())


class VolumesStore:
    """A folder of volumes."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def receive(self, name: str) -> Iterator[Upload]:
        """An upload of a file called `name`; what is not kept by the end is removed.

        Raises BadNameError.
        """
        path = self._incoming / f"{uuid.uuid4().hex}{suffix_of(name)}"
        try:
            with path.open("wb") as file:
                yield Upload(name, path, file, self.limit_bytes)
        finally:
            path.unlink(missing_ok=True)

    def keep(self, upload: Upload) -> Path:
        """Takes a whole upload into the store, in one step that cannot be seen half done."""
        suffix = upload.path.name[32:]
        kept = self._folder / f"{upload.volume_id}{suffix}"
        os.replace(upload.path, kept)
        return kept

    def holds(self, volume_id: str) -> bool:
        return self._find(volume_id) is not None

    def path(self, volume_id: str) -> Path:
        """The file of a stored volume. Raises UnknownVolumeError."""
        found = self._find(volume_id)
        if found is None:
            raise UnknownVolumeError(f"volume_id: no stored volume has the id {volume_id[:80]!r}")
        return found

    def _find(self, volume_id: str) -> Path | None:
        if not _VOLUME_ID.fullmatch(volume_id):
            return None
        candidates = (self._folder / f"{volume_id}{suffix}" for suffix in SUFFIXES)
        return next((path for path in candidates if path.is_file()), None)


def suffix_of(name: str) -> str:
    """The suffix of a plain file name, in lower case.

    Raises BadNameError for paths, control characters and formats that are not read.

    >>> suffix_of("Scan 3.NII.GZ")
    '.nii.gz'
    """
    if not name or len(name) > 255 or not name.isprintable() or set(name) & set("/\\:"):
        raise BadNameError(f"name: needs a plain file name without a path, got {name[:80]!r}")
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), None)
    if suffix is None:
        raise BadNameError(f"name: must end in {', '.join(SUFFIXES)}, got {name[:80]!r}")
    return suffix
