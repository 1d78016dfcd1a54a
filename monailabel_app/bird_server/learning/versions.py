"""The versions of a model that trainings have led to, kept in a folder, and which one answers.

    STUDIES/.bird/models/versions.json    what each was made of and is worth
    STUDIES/.bird/models/NAME/            the weights of those that were taken

A version that was judged worse leaves its record and no weights. Knows nothing about torch, nor how
a version is made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from bird_server.review.fingerprint import fingerprint
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json

MANIFEST = "versions.json"
ORIGINAL = "original"
_UNFINISHED = ".training-"
_ODD = re.compile(r"[^A-Za-z0-9_-]+")


class UnknownVersionError(BirdError):
    """A version that is not kept here."""


class DamagedVersionsError(BirdError):
    """The list of versions cannot be read."""


@dataclass(frozen=True)
class ModelRecord:
    """A version: what it was made of and what it is worth."""

    version: str  # fingerprint of its weights
    name: str  # its folder's
    root: str  # fingerprint of the model that the server was started with
    base: str  # fingerprint of the version that it was trained from
    made: str  # UTC, ISO 8601
    status: Literal["kept", "refused"]
    trained_on: dict[str, Any] = field(default_factory=dict)  # cases, labels, pictures, seconds
    before: dict[str, Any] = field(default_factory=dict)  # judgement of the base
    after: dict[str, Any] = field(default_factory=dict)  # and of this one, on the same questions


class Versions:
    """The versions in one folder; safe for threads of one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def records(self, root: str) -> list[ModelRecord]:
        """The versions that come from the model `root`, the oldest first."""
        return [record for record in self._read()[0] if record.root == root]

    def in_use(self, root: str) -> ModelRecord | None:
        """The version that answers in place of `root`; None: `root` itself."""
        records, used = self._read()
        chosen = [r for r in records if r.version == used.get(root) and r.status == "kept"]
        return chosen[-1] if chosen else None

    def path(self, record: ModelRecord) -> Path:
        """The folder of its weights. Raises UnknownVersionError where it is gone."""
        folder = self.folder / record.name
        if record.status != "kept" or not folder.is_dir():
            raise UnknownVersionError(f"version: the weights of {record.name} are not kept here")
        return folder

    def find(self, root: str, version: str) -> ModelRecord:
        """By fingerprint or name. Raises UnknownVersionError."""
        for record in self.records(root):
            if version in (record.version, record.name):
                return record
        raise UnknownVersionError(f"version: no version {version[:80]!r} of this model is known")

    def take(self, weights: Path, base_name: str, told: Mapping[str, Any]) -> ModelRecord:
        """Moves a new model into the folder, under a name of its own; `told` are other fields."""
        with self._lock:
            records, used = self._read()
            name = _free_name(base_name, [record.name for record in records])
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.move(weights, self.folder / name)
            record = _record(fingerprint(self.folder / name), name, "kept", told)
            self._write([*records, record], used)
        return record

    def refuse(self, weights: Path, base_name: str, told: Mapping[str, Any]) -> ModelRecord:
        """Notes that a new model was worse; its weights are removed by whoever made them."""
        with self._lock:
            records, used = self._read()
            name = _free_name(base_name, [record.name for record in records])
            record = _record(fingerprint(weights), name, "refused", told)
            self._write([*records, record], used)
        return record

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder on the same disk to make a version in; it is gone at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def tidy(self) -> None:
        """Removes what a training that was killed with its server has left behind."""
        for place in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(place, ignore_errors=True)

    def use(self, root: str, record: ModelRecord | None) -> None:
        """Notes which version answers from now on; None: `root` itself."""
        with self._lock:
            records, used = self._read()
            used = {key: value for key, value in used.items() if key != root}
            self._write(records, used | ({root: record.version} if record else {}))

    def _read(self) -> tuple[list[ModelRecord], dict[str, str]]:
        path = self.folder / MANIFEST
        if not path.is_file():
            return [], {}
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            known = {one.name for one in fields(ModelRecord)}
            records = [
                ModelRecord(**{k: v for k, v in row.items() if k in known})
                for row in told["versions"]
            ]
            return records, dict(told["in_use"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedVersionsError(
                f"{MANIFEST}: cannot be read ({error}); repair it, or move it away to begin anew"
            ) from error

    def _write(self, records: list[ModelRecord], used: dict[str, str]) -> None:
        told = {"in_use": used, "versions": [asdict(record) for record in records]}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / MANIFEST, told)


def folder_of(studies: Path) -> Path:
    return studies / ".bird" / "models"


def _record(version: str, name: str, status: Literal["kept", "refused"], told) -> ModelRecord:
    made = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return ModelRecord(version=version, name=name, made=made, status=status, **told)


def _free_name(base_name: str, taken: list[str]) -> str:
    """bird-mini -> bird-mini-r1, bird-mini-r2, ...; of bird-mini-r1 too.

    >>> _free_name("bird-mini", ["bird-mini-r1"]), _free_name("bird-mini-r1", ["bird-mini-r1"])
    ('bird-mini-r2', 'bird-mini-r2')
    """
    stem = re.sub(r"-r\d+$", "", _ODD.sub("_", os.path.basename(base_name))) or "model"
    number = 1
    while f"{stem}-r{number}" in taken:
        number += 1
    return f"{stem}-r{number}"
