"""The versions of the model that this process serves: which there are, and which one answers.

Joins the service, which runs a model, and `learning.versions`, which keeps those that trainings
made. Knows nothing about HTTP or how a version is made.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from bird_server.learning.versions import ORIGINAL, ModelRecord, Versions, folder_of
from bird_server.review.errors import ReviewError
from bird_server.service import Service
from bird_vlm.errors import BirdError

logger = logging.getLogger(__name__)


class ModelVersions:
    """The versions of one service, whose model at the time is the original.

    That one is not loaded where the service knows its fingerprint.
    """

    def __init__(self, service: Service) -> None:
        if service.review is None:
            raise ReviewError("versions: this server keeps no reviews, so nothing is learnt")
        self._service = service
        self._original, self.root = service.model_name, service.root or service.version
        self.kept = Versions(folder_of(service.review.studies))
        self._changing = threading.Lock()

    def restore(self) -> None:
        """At the server's start: goes on with the version that answered last.

        Where it cannot be loaded any more the original answers, and the log tells. Raises
        DamagedVersionsError.
        """
        self.kept.tidy()
        record = self.kept.in_use(self.root)
        if record is None:
            return
        try:
            self._service.swap(str(self.kept.path(record)))
        except BirdError as error:
            logger.error("version %s cannot be used, the original answers: %s", record.name, error)

    def model(self) -> tuple[str, str]:
        """Name or folder of the model that answers now, and its fingerprint."""
        return self._service.model_name, self._service.version

    def take(self, weights: Path, base_name: str, told: dict[str, Any]) -> ModelRecord:
        """Keeps a new version and answers from it, between two batches.

        Where it cannot be loaded the old one stays in use. Raises CheckpointError.
        """
        record = self.kept.take(weights, base_name, told)
        self.use(record.version)
        return record

    def use(self, version: str) -> None:
        """Answers from this version from now on; "original" is what the server was started with.

        Raises UnknownVersionError, CheckpointError.
        """
        with self._changing:
            original = version in (ORIGINAL, self.root)
            record = None if original else self.kept.find(self.root, version)
            model = self._original if record is None else str(self.kept.path(record))
            if self._service.version != (self.root if record is None else record.version):
                self._service.swap(model)
            self.kept.use(self.root, record)

    def told(self) -> dict[str, Any]:
        """All versions, the original first, as JSON."""
        now = self._service.version
        original = {"version": self.root, "name": Path(self._original).name, "status": "original"}
        rows = [original, *(_told(record) for record in self.kept.records(self.root))]
        for row in rows:
            row["in_use"] = row["version"] == now and row["status"] != "refused"
        return {"in_use": now, "versions": rows}


_made: WeakKeyDictionary[Service, ModelVersions] = WeakKeyDictionary()
_making = threading.Lock()


def versions_of(service: Service) -> ModelVersions:
    """The versions of a service; at the first call its model must be the original."""
    with _making:
        if service not in _made:
            _made[service] = ModelVersions(service)
        return _made[service]


def _told(record: ModelRecord) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name != "root"}
