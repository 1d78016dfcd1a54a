"""Whose turn is it? Jobs that wait, in the order in which devices take them.

Clients come in turn, each with its own line, and whoever got a batch stands at the end again: a
long grounding gives way to every other job between its batches, and a client with a hundred jobs
to one with a single question. Knows nothing about models or HTTP.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from bird_server.jobs.errors import JobError, QueueFullError
from bird_server.jobs.job import Job


@dataclass(frozen=True)
class QueueLimits:
    """How much a server takes on."""

    jobs: int = 128  # unfinished ones
    jobs_per_client: int = 64
    open_per_client: int = 2  # groundings and batches under way, each with a volume in memory


class FairQueue:
    """Used by any number of threads."""

    def __init__(self, limits: QueueLimits = QueueLimits()) -> None:
        self.limits = limits
        self._lines: OrderedDict[str, deque[Job]] = OrderedDict()  # by client, next one first
        self._unfinished: dict[str, Job] = {}
        self._open: Counter[str] = Counter()
        self._opened: set[str] = set()
        self._changed = threading.Condition()
        self._closed: JobError | None = None  # what whoever comes too late is told

    def add(self, job: Job, retry_after_s: int = 1) -> None:
        """Raises QueueFullError where too many are unfinished, in all or of this client.

        Once the queue is closed, raises what it was closed with.
        """
        with self._changed:
            if self._closed is not None:
                raise self._closed
            self.check_room(job, retry_after_s)
            self._unfinished[job.job_id] = job
            self._line_up(job)

    def check_room(self, job: Job, retry_after_s: int = 1) -> None:
        """As `add`, but adds nothing."""
        with self._changed:
            mine = sum(other.client == job.client for other in self._unfinished.values())
            if len(self._unfinished) >= self.limits.jobs:
                raise QueueFullError(
                    f"{len(self._unfinished)} jobs are waiting, more are not taken", retry_after_s
                )
            if mine >= self.limits.jobs_per_client:
                raise QueueFullError(
                    f"{mine} jobs of yours are waiting, more are not taken", retry_after_s
                )

    def take(self, worker: object) -> Job | None:
        """The next job that this worker may go on with; None once the queue is closed."""
        with self._changed:
            while self._closed is None:
                job = self._next(worker)
                if job is not None:
                    return job
                self._changed.wait()
            return None

    def put_back(self, job: Job) -> bool:
        """To the end of the line; False where the job is over, and whoever has it closes it."""
        with self._changed:
            if job.is_over:
                return False
            self._line_up(job)
            return True

    def withdraw(self, job: Job) -> bool:
        """Out of the line; False where somebody is at work on it."""
        with self._changed:
            line = self._lines.get(job.client, deque())
            if job not in line:
                return False
            self._step_out(line, job)
            return True

    def leave(self, job: Job) -> None:
        """For a job that is over."""
        with self._changed:
            self._unfinished.pop(job.job_id, None)
            if job.job_id in self._opened:
                self._opened.discard(job.job_id)
                self._open[job.client] -= 1
            self._changed.notify_all()

    def hand_over(self, old: object, new: object) -> None:
        """What waits for one worker waits for another."""
        with self._changed:
            for job in self._unfinished.values():
                job.worker = new if job.worker is old else job.worker
            self._changed.notify_all()

    def withdraw_all(self, worker: object) -> list[Job]:
        """Out of the lines: those that only this worker may go on with."""
        with self._changed:
            bound = [job for job in self._unfinished.values() if job.worker is worker]
            return [job for job in bound if self.withdraw(job)]

    def close(self, reason: JobError) -> None:
        """Nobody gets a job any more; `reason` is for those who come with one."""
        with self._changed:
            self._closed = reason
            self._lines.clear()
            self._changed.notify_all()

    def ahead(self, job: Job) -> int:
        """How many jobs that nobody has begun stand before it; 0 for one that has begun."""
        with self._changed:
            if job.state != "queued":
                return 0
            waiting = [other for other in self._unfinished.values() if other.state == "queued"]
            return waiting.index(job) if job in waiting else 0

    def unfinished(self) -> int:
        with self._changed:
            return len(self._unfinished)

    def _line_up(self, job: Job) -> None:
        self._lines.setdefault(job.client, deque()).append(job)
        self._changed.notify_all()

    def _next(self, worker: object) -> Job | None:
        for client, line in self._lines.items():
            for job in line:
                if job.worker in (None, worker) and self._may_begin(job):
                    self._lines.move_to_end(client)
                    self._step_out(line, job)
                    return job
        return None

    def _step_out(self, line: deque[Job], job: Job) -> None:
        line.remove(job)
        if not line:
            del self._lines[job.client]

    def _may_begin(self, job: Job) -> bool:
        """Counts it where it does; one that is over has left already and counts no more."""
        if not job.is_long or job.is_over or job.job_id in self._opened:
            return True
        if self._open[job.client] >= self.limits.open_per_client:
            return False
        self._opened.add(job.job_id)
        self._open[job.client] += 1
        return True
