"""A volume that is still arriving, and the name it comes under. Knows nothing about voxels."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from bird_server.volumes.store_errors import BadNameError, TooLargeError, full_disk_told

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm", ".png", ".jpg", ".jpeg", ".zip")
SERIES = ".series"  # of the folder of an unpacked DICOM series
_HEX = 32  # digits before the suffix


class Upload:
    """A file that grows."""

    def __init__(self, name: str, path: Path, file: BinaryIO, limit_bytes: int) -> None:
        """`path` is 32 hex digits and the suffix of `name`."""
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

    @property
    def suffix(self) -> str:
        return self.path.name[_HEX:]

    @property
    def series(self) -> Path:
        """The folder where a zipped series is unpacked; removed with the upload, unless kept."""
        return self.path.with_name(f"{self.path.name[:_HEX]}{SERIES}")

    def write(self, chunk: bytes | bytearray) -> None:
        """Appends `chunk`; raises TooLargeError above the limit, StoreFullError on a full disk."""
        self._size_bytes += len(chunk)
        if self._size_bytes > self._limit_bytes:
            raise TooLargeError(f"upload: at most {self._limit_bytes} bytes are taken")
        self._digest.update(chunk)
        with full_disk_told():
            self._file.write(chunk)

    def flush(self) -> None:
        """Makes every byte so far readable under `path` and safe from a power cut.

        Raises StoreFullError.
        """
        with full_disk_told():
            self._file.flush()
            os.fsync(self._file.fileno())


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
