"""Jobs on disk, so that a server that stops or dies takes them up again: one JSON file per job.

A file is written whole or not at all. Knows nothing about queues or models.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bird_server.jobs.errors import JournalError

FORMAT = 1
_NAME = re.compile(r"[0-9a-f]{32}\.json")
logger = logging.getLogger(__name__)


class Journal:
    """A folder of jobs; safe for threads, as each job has its own file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, record: dict[str, Any]) -> None:
        """Notes a job down under its `job_id`, safe from a power cut. Raises JournalError."""
        path = self._path(record["job_id"])
        unfinished = path.with_suffix(".unfinished")
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                json.dump({"format": FORMAT} | record, file, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise JournalError(
                f"the job cannot be noted down ({error.strerror}): free some space and try again"
            ) from error

    def remove(self, job_id: str) -> None:
        """What cannot be removed now is found, and too old, at the next start."""
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("job %s stays in the journal: %s", job_id, error)

    def records(self) -> Iterator[dict[str, Any]]:
        """All jobs, the oldest first; what cannot be read is put aside and logged."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            if not _NAME.fullmatch(path.name):
                continue
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                if record["format"] != FORMAT or f"{record['job_id']}.json" != path.name:
                    raise ValueError(f"format {record['format']}")
                found.append((record["created"], record))
            except (OSError, ValueError, KeyError, TypeError) as error:
                aside = path.with_suffix(".damaged")
                logger.warning("%s cannot be read (%s); kept as %s", path, error, aside.name)
                os.replace(path, aside)
        yield from (record for _, record in sorted(found, key=lambda pair: pair[0]))

    def _path(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.json"
