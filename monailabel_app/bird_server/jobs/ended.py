"""Jobs that are over, kept for a while so that their clients can fetch what came of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from bird_server.jobs.job import Job

KEPT_S = 3600.0
KEPT_JOBS = 500
KEPT_BYTES = 64 << 20


class Ended:
    """The order of their ends; the newest stays whatever its size. The caller has a lock."""

    def __init__(
        self,
        seconds: float = KEPT_S,
        jobs: int = KEPT_JOBS,
        size_bytes: int = KEPT_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self._limit, self._limit_bytes, self._now = seconds, jobs, size_bytes, now
        self._jobs: OrderedDict[str, tuple[Job, float]] = OrderedDict()
        self._bytes = 0

    def add(self, job: Job) -> None:
        self._jobs[job.job_id] = (job, self._now())
        self._bytes += job.log.bytes

    def remove(self, job: Job) -> None:
        if self._jobs.pop(job.job_id, None):
            self._bytes -= job.log.bytes

    def expired(self) -> Iterator[Job]:
        """The oldest, as long as there is one too many; each must be removed at once."""
        while self._jobs:
            job, since = next(iter(self._jobs.values()))
            crowded = len(self._jobs) > self._limit or self._bytes > self._limit_bytes
            late = self._now() - since > self.seconds
            if not late and not (crowded and len(self._jobs) > 1):
                return
            yield job
