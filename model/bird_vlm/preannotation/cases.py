"""A case: one scan of the studies folder, what it is called, and what its bytes are.

Knows nothing about how cases are found or what is asked of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bird_vlm.volumes import Volume

_BLOCK = 2**20
_SLUG_BYTES = 80  # of a name that a file system may limit to 255 with all that is added


@dataclass(frozen=True)
class Case:
    """One scan: a file, a file with its voxels in others, or the files of a DICOM series."""

    place: str  # relative to the studies folder, with /; may hold bytes that are no text
    files: tuple[Path, ...]  # the first is the one to read, but of a series
    is_series: bool = False
    series: str = ""  # tells series of one folder apart; "" where there is but one
    note: str = ""  # what the scan says of itself

    @property
    def name(self) -> str:
        """For people: the place and the series, as text whatever bytes the file system holds."""
        place = os.fsencode(self.place).decode("utf-8", "replace")
        return f"{place}#{self.series}" if self.series else place

    @property
    def folder(self) -> str:
        """Of its results: readable, short, and different for every place and series."""
        digest = hashlib.blake2b(os.fsencode(f"{self.place}#{self.series}"), digest_size=5)
        return f"{slug(self.name)}-{digest.hexdigest()}"

    def digest(self) -> str:
        """Of all bytes of its files. Raises OSError where one cannot be read."""
        hasher = hashlib.blake2b(digest_size=16)
        for path in self.files:
            hasher.update(b"%d:" % path.stat().st_size)
            with path.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    hasher.update(block)
        return hasher.hexdigest()

    def read(self) -> Volume:
        """Raises BadVolumeError as `read_volume` does, in one line without the path."""
        from bird_vlm.errors import BadVolumeError
        from bird_vlm.volumes import read_volume

        if self.is_series and len(self.files) > 1:
            with tempfile.TemporaryDirectory(prefix="bird-series-") as folder:
                _gather(self.files, Path(folder))
                source = Path(folder)
                try:
                    return read_volume(source)
                except BadVolumeError as error:
                    raise BadVolumeError(_without_path(error, source)) from error
        try:
            return read_volume(self.files[0])
        except BadVolumeError as error:
            raise BadVolumeError(_without_path(error, self.files[0])) from error


def slug(name: str) -> str:
    """Letters and digits of `name`, at most 80 bytes of them.

    >>> slug("Müller, Jörg/CT Abdomen.nii.gz")
    'Müller-Jörg-CT-Abdomen.nii.gz'
    """
    kept = (c if c.isalnum() or c in "._" else "-" for c in unicodedata.normalize("NFC", name))
    joined = "-".join(filter(None, "".join(kept).split("-"))).lstrip(".")
    return joined.encode()[:_SLUG_BYTES].decode(errors="ignore") or "case"


def _gather(files: tuple[Path, ...], folder: Path) -> None:
    """The files of one series in a folder of their own, as links where the system has them."""
    for number, path in enumerate(files):
        target = folder / f"{number:06d}.dcm"
        try:
            target.symlink_to(path.absolute())
        except OSError:
            shutil.copyfile(path, target)


def _without_path(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").replace(str(path), path.name)
