"""Uploaded volumes on disk, each under the SHA-256 of its bytes.

The same bytes are stored once. An upload grows under `incoming/` and is renamed when it is whole,
so that a half-written file never looks finished. What has not been used for longest goes first
where space or time is over, but never what a job or a review needs. Knows nothing about voxels or
HTTP.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bird_server.volumes.store_errors import (
    StoreFullError,
    UnknownVolumeError,
    VolumeInUseError,
    full_disk_told,
)
from bird_server.volumes.uploads import SERIES, SUFFIXES, Upload, suffix_of
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json

LIMIT_VARIABLE = "BIRD_UPLOAD_BYTES"
QUOTA_VARIABLE = "BIRD_STORE_BYTES"
AGE_VARIABLE = "BIRD_STORE_DAYS"
DEFAULT_LIMIT_BYTES = 2 << 30
DEFAULT_QUOTA_BYTES = 100 << 30
DEFAULT_AGE_DAYS = 30
_DAY_S = 86_400
_VOLUME_ID = re.compile(r"[0-9a-f]{64}")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreLimits:
    """How much is kept, and for how long."""

    upload_bytes: int = DEFAULT_LIMIT_BYTES  # of one volume
    quota_bytes: int = DEFAULT_QUOTA_BYTES  # of all
    age_s: float = DEFAULT_AGE_DAYS * _DAY_S  # since the last use


@dataclass(frozen=True)
class StoredVolume:
    """What is known of a volume without reading it."""

    volume_id: str  # SHA-256 of the uploaded bytes
    volume_digest: str  # Volume.digest, by which reviews know it
    name: str  # as whoever sent it last calls it
    geometry: dict[str, Any]  # JSON of a VolumeGeometry
    path: Path  # a file, or the folder of a DICOM series
    size_bytes: int
    used: float  # seconds since 1970
    in_use: bool


def limit_from_environment() -> int:
    """The largest upload in bytes. Raises BirdError where BIRD_UPLOAD_BYTES is no number."""
    return _number(LIMIT_VARIABLE, DEFAULT_LIMIT_BYTES, "a number of bytes")


def limits_from_environment() -> StoreLimits:
    """Raises BirdError where one of the three variables is no number."""
    return StoreLimits(
        limit_from_environment(),
        _number(QUOTA_VARIABLE, DEFAULT_QUOTA_BYTES, "a number of bytes"),
        _number(AGE_VARIABLE, DEFAULT_AGE_DAYS, "a number of days") * _DAY_S,
    )


class VolumesStore:
    """A folder of volumes; safe for any number of threads of one process."""

    def __init__(
        self,
        folder: Path,
        limits: StoreLimits,
        now: Callable[[], float] = time.time,
        spared: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        """`now` gives seconds since 1970, `spared` the volumes that never go by themselves."""
        self.folder, self.limits = folder, limits
        self._now, self._spared = now, spared
        self._incoming, self._about = folder / "incoming", folder / "about"
        self._held: Counter[str] = Counter()
        self._lock = threading.RLock()
        shutil.rmtree(self._incoming, ignore_errors=True)  # what a kill left behind
        for made in (self._incoming, self._about):
            made.mkdir(parents=True, exist_ok=True)
        self._tidy()
        self.expire()

    @contextmanager
    def receive(self, name: str) -> Iterator[Upload]:
        """An upload of a file called `name`; what is not kept by the end is removed.

        Raises BadNameError, StoreFullError.
        """
        path = self._incoming / f"{uuid.uuid4().hex}{suffix_of(name)}"
        with full_disk_told():
            file = path.open("wb")
        upload = Upload(name, path, file, self.limits.upload_bytes)
        try:
            with file:
                yield upload
        finally:
            path.unlink(missing_ok=True)
            shutil.rmtree(upload.series, ignore_errors=True)

    def keep(self, upload: Upload, volume_digest: str, geometry: dict[str, Any]) -> Path:
        """Takes a whole upload into the store, in one step that cannot be seen half done.

        Others go for it where they must. Raises StoreFullError.
        """
        is_series = upload.series.is_dir()
        arrived = upload.series if is_series else upload.path
        with self._lock, full_disk_told():
            found = self._find(upload.volume_id)
            if found is None:
                self.expire(_size_bytes(arrived))
                self.describe(upload.volume_id, upload.name, volume_digest, geometry)
                suffix = SERIES if is_series else upload.suffix
                found = self.folder / f"{upload.volume_id}{suffix}"
                os.replace(arrived, found)
            self._touch(found)
        return found

    def describe(
        self, volume_id: str, name: str, volume_digest: str, geometry: dict[str, Any]
    ) -> None:
        """Notes down what is known of a volume."""
        known = {"name": name, "volume_digest": volume_digest, "geometry": geometry}
        write_json(self._about / f"{volume_id}.json", known)

    def is_described(self, volume_id: str) -> bool:
        """Raises UnknownVolumeError."""
        self.path(volume_id)
        return (self._about / f"{volume_id}.json").is_file()

    def about(self, volume_id: str) -> StoredVolume:
        """Raises UnknownVolumeError; also for one that nobody described."""
        path = self.path(volume_id)
        try:
            told = json.loads((self._about / f"{volume_id}.json").read_text(encoding="utf-8"))
            known = (told["volume_digest"], told["name"], told["geometry"])
            used, size_bytes = path.stat().st_mtime, _size_bytes(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unknown("volume_id", volume_id) from error
        return StoredVolume(volume_id, *known, path, size_bytes, used, volume_id in self._held)

    def all(self) -> list[StoredVolume]:
        """All described volumes, the last used first."""
        found = []
        for volume_id, _ in self._volumes():
            try:
                found.append(self.about(volume_id))
            except UnknownVolumeError:  # older, or gone just now
                logger.debug("%s is not described", volume_id)
        return sorted(found, key=lambda stored: -stored.used)

    def with_digest(self, volume_digest: str) -> StoredVolume:
        """The volume that reviews know by this digest. Raises UnknownVolumeError."""
        for stored in self.all():
            if stored.volume_digest == volume_digest:
                return stored
        raise _unknown("volume_digest", volume_digest)

    def stored_bytes(self) -> int:
        with self._lock:
            return sum(_size_bytes(path) for _, path in self._volumes())

    def holds(self, volume_id: str) -> bool:
        return self._find(volume_id) is not None

    def path(self, volume_id: str) -> Path:
        """The file or folder of a stored volume. Raises UnknownVolumeError."""
        found = self._find(volume_id)
        if found is None:
            raise _unknown("volume_id", volume_id)
        return found

    def use(self, volume_id: str) -> Path:
        """As `path`, for somebody who reads it now: it will be kept longer."""
        with self._lock:
            self._touch(found := self.path(volume_id))
            return found

    def hold(self, volume_ids: Sequence[str]) -> None:
        """They stay until as many calls of `release`. Raises UnknownVolumeError."""
        with self._lock:
            for volume_id in volume_ids:
                self._touch(self.path(volume_id))
            self._held.update(volume_ids)

    def release(self, volume_ids: Sequence[str]) -> None:
        with self._lock:
            self._held.subtract(volume_ids)
            self._held = +self._held

    def remove(self, volume_id: str) -> None:
        """Raises UnknownVolumeError, VolumeInUseError."""
        with self._lock:
            path = self.path(volume_id)
            if volume_id in self._held:
                raise VolumeInUseError(f"volume_id: a job needs {volume_id}; cancel the job first")
            self._remove(volume_id, path)

    def expire(self, room_for_bytes: int = 0) -> None:
        """Removes what is too old, and for `room_for_bytes` what was not used for longest.

        Raises StoreFullError where that is not enough.
        """
        with self._lock:
            free = self.limits.quota_bytes - room_for_bytes - self.stored_bytes()
            oldest = self._now() - self.limits.age_s
            kept = {*self._held, *self._spared()}
            for volume_id, path in sorted(self._volumes(), key=lambda v: v[1].stat().st_mtime):
                if volume_id in kept or (free >= 0 and path.stat().st_mtime >= oldest):
                    continue
                free += _size_bytes(path)
                logger.info("volume %s goes: not used since long", volume_id)
                self._remove(volume_id, path)
        if free < 0 < room_for_bytes:
            raise StoreFullError(
                f"upload: {-free} bytes are lacking; jobs and reviews need all volumes that are "
                f"left of the {self.limits.quota_bytes} bytes that are kept"
            )

    def _tidy(self) -> None:
        """Removes what is known of volumes that are gone, which a kill may have left behind."""
        there = {volume_id for volume_id, _ in self._volumes()}
        for about in self._about.iterdir():
            if about.name.removesuffix(".json") not in there:
                about.unlink()

    def _volumes(self) -> list[tuple[str, Path]]:
        found = [path for path in self.folder.iterdir() if _VOLUME_ID.fullmatch(path.name[:64])]
        return [(path.name[:64], path) for path in found]

    def _remove(self, volume_id: str, path: Path) -> None:
        if path.is_dir():
            gone = self._incoming / uuid.uuid4().hex
            os.replace(path, gone)  # gone at once, or not at all
            shutil.rmtree(gone)
        else:
            path.unlink()
        (self._about / f"{volume_id}.json").unlink(missing_ok=True)

    def _touch(self, path: Path) -> None:
        os.utime(path, (self._now(), self._now()))

    def _find(self, volume_id: str) -> Path | None:
        if not _VOLUME_ID.fullmatch(volume_id):
            return None
        candidates = (self.folder / f"{volume_id}{suffix}" for suffix in (*SUFFIXES, SERIES))
        return next((path for path in candidates if path.exists()), None)


def _unknown(argument: str, value: str) -> UnknownVolumeError:
    return UnknownVolumeError(f"{argument}: no stored volume has the id {value[:80]!r}")


def _size_bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _number(variable: str, default: int, what: str) -> int:
    value = os.environ.get(variable) or str(default)
    if not value.isdecimal():
        raise BirdError(f"{variable}: needs {what}, got {value!r}")
    return int(value)
