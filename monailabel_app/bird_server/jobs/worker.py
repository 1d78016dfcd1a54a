"""One device's thread: takes a job, goes one step with it, puts it back.

A step that raises ends its job. What ends the thread itself is a crash, which is told to whoever
started the worker. Knows nothing about files or HTTP.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from bird_server.jobs.errors import WorkerCrashedError
from bird_server.jobs.job import Job
from bird_server.jobs.queue import FairQueue
from bird_server.jobs.steps import Answer, Errand
from bird_server.jobs.yielding import give_way
from bird_server.model import Model
from bird_vlm.errors import BirdError

FAULTS_IN_A_ROW = 3  # unforeseen errors of so many jobs, one after the other, mean a broken device
logger = logging.getLogger(__name__)


class Foreman(Protocol):
    """Whom a worker tells what became of a job, and who runs errands."""

    def finish(self, job: Job, answer: Answer) -> None: ...

    def fail(self, job: Job, error: Exception) -> None: ...

    def run(self, job: Job, errand: Errand) -> None: ...

    def began(self, job: Job) -> None: ...


class Worker:
    """A thread and the model that it asks; `model` may be exchanged at any time."""

    def __init__(
        self,
        device: str,
        model: Model,
        queue: FairQueue,
        foreman: Foreman,
        crashed: Callable[[Worker], None],
    ) -> None:
        self.device, self.model = device, model
        self.is_busy, self.is_out = False, False
        self._queue, self._foreman, self._crashed = queue, foreman, crashed
        self._faults = 0
        self._thread = threading.Thread(target=self._work, name=f"worker {device}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    @property
    def state(self) -> str:
        return "out" if self.is_out else "busy" if self.is_busy else "idle"

    def _work(self) -> None:
        give_way()
        while (job := self._queue.take(self)) is not None:
            self.is_busy = True
            try:
                self._go_on(job)
            except BaseException:
                logger.exception("worker %s crashed during job %s", self.device, job.job_id)
                self._foreman.fail(job, self.crash())
                self.is_out, self.is_busy = True, False
                self._crashed(self)
                return
            self.is_busy = False

    def _go_on(self, job: Job) -> None:
        if job.is_over:
            job.close()
            return
        try:
            if not job.has_begun:
                self._foreman.began(job)
            step = job.advance(self, self.model)
            if isinstance(step, Answer):
                self._foreman.finish(job, step)
        except Exception as error:
            self._foreman.fail(job, error)
            self._count(error)
            return
        if isinstance(step, Answer):
            self._faults = 0
        elif isinstance(step, Errand) and not job.is_over:
            self._foreman.run(job, step)
        elif not self._queue.put_back(job):
            job.close()

    def _count(self, error: Exception) -> None:
        """Raises SystemExit, a crash, where one job after the other ends in unforeseen errors."""
        self._faults = 0 if isinstance(error, BirdError) else self._faults + 1
        if self._faults >= FAULTS_IN_A_ROW:
            raise SystemExit(f"{self._faults} jobs in a row failed on {self.device}") from error

    def crash(self) -> WorkerCrashedError:
        """What becomes of a job that it was at."""
        return WorkerCrashedError(f"the worker on {self.device} broke down during this job")
