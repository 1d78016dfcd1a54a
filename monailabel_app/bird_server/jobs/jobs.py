"""All jobs of a server: taken on, found again, cancelled, ended, forgotten.

Ties queue, workers and journal together. Knows nothing about HTTP, volumes' files or models.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from bird_server.jobs.crew import Crew
from bird_server.jobs.ended import Ended
from bird_server.jobs.errors import (
    JobCancelledError,
    JobError,
    JobInterruptedError,
    NoWorkerError,
    StoppingError,
    UnknownJobError,
)
from bird_server.jobs.job import STATES, Job, State
from bird_server.jobs.journal import Journal
from bird_server.jobs.pace import Pace
from bird_server.jobs.questions import Question
from bird_server.jobs.queue import FairQueue
from bird_server.jobs.records import BadRecordError, job_of, record_of
from bird_server.jobs.steps import Answer, Desk, Errand, steps_of
from bird_vlm.errors import BirdError

ERRANDS_AT_ONCE = 2  # reading and storing beside the devices
LAST_BATCH_S = 30.0  # how long a stop waits for the batches at work
MAX_ATTEMPTS = 3  # starts of one job; what ends the process each time is not tried for ever
_STOPPED = "the server stops; the job goes on, under the same id, when it has started again"
_CANCELLED = "the job was cancelled"
_TOO_LATE = "the server is about to stop; ask again when it has started again"
_LOST = "every worker broke down and the model cannot be loaded again"
logger = logging.getLogger(__name__)


class Holds(Protocol):
    """Who sees to it that volumes stay while jobs need them."""

    def hold(self, volume_ids: list[str]) -> None:
        """Raises UnknownVolumeError."""

    def release(self, volume_ids: list[str]) -> None: ...


class Jobs:
    """Safe for any number of threads."""

    def __init__(
        self,
        crew: Crew,
        queue: FairQueue,
        desk: Desk,
        holds: Holds,
        journal: Journal | None = None,
        ended: Ended | None = None,
    ) -> None:
        self.crew, self.queue = crew, queue
        self.ended = ended or Ended()
        self._desk, self._holds, self._journal = desk, holds, journal
        self._jobs: dict[str, Job] = {}
        self._pace = Pace()
        self._beside = ThreadPoolExecutor(ERRANDS_AT_ONCE, "beside the device")
        self._lock = threading.RLock()
        self._stopping = False

    def submit(self, question: Question, client: str = "", durable: bool = True) -> Job:
        """Takes a question on; a durable one outlives this process.

        Raises BadRequestError, UnknownVolumeError, QueueFullError, JournalError, StoppingError,
        NoWorkerError.
        """
        question.check()
        job = Job(question.kind, partial(steps_of, question, self._desk), client, question)
        job.durable = durable and self._journal is not None
        return self.take_on(job)

    def take_on(self, job: Job) -> Job:
        """As `submit`, for a job that is made already."""
        if self._stopping:
            raise StoppingError(_TOO_LATE)
        self.crew.start(self, self._lost)
        self._holds.hold(job.volume_ids())
        job.holds = job.volume_ids()
        try:
            self.queue.check_room(job, self._pace.retry_after_s(self.queue.unfinished()))
            self._note(job)
            self._line_up(job)
        except Exception:
            self._release(job)
            raise
        return job

    def get(self, job_id: str) -> Job:
        """Raises UnknownJobError."""
        with self._lock:
            self._expire()
            if job_id not in self._jobs:
                raise UnknownJobError(f"job_id: no job has the id {job_id[:80]!r}")
            return self._jobs[job_id]

    def all(self, state: State | None = None) -> list[Job]:
        """The oldest first."""
        with self._lock:
            self._expire()
            return [job for job in self._jobs.values() if state in (None, job.state)]

    def counts(self) -> dict[State, int]:
        """How many jobs are known in each state."""
        with self._lock:
            counted = Counter(job.state for job in self._jobs.values())
        return {state: counted[state] for state in STATES}

    def cancel(self, job: Job) -> None:
        """Before its next batch; one that is over stays as it is."""
        fields = {"detail": _CANCELLED}
        if job.end("cancelled", "cancelled", fields, JobCancelledError(_CANCELLED)):
            self._leave(job, fields)
        if self.queue.withdraw(job):
            job.close()

    def forget(self, job: Job) -> None:
        """A job that is over is as if it had never been."""
        with self._lock:
            self._jobs.pop(job.job_id, None)
            self.ended.remove(job)
        if job.durable:
            self._journal.remove(job.job_id)

    def restore(self) -> None:
        """Takes up what the journal has: results to be fetched, and jobs that were not ended.

        Raises CheckpointError.
        """
        self.crew.start(self, self._lost)
        for record in self._journal.records() if self._journal else ():
            try:
                job = job_of(record, self._desk)
            except BadRecordError as error:
                logger.warning("job %s is given up: %s", record["job_id"], error)
                self._journal.remove(record["job_id"])
            else:
                self._take_up(job)

    def stop(self) -> None:
        """Ends the batches at work; the journal's jobs go on at the next start, others fail."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        self.queue.close(StoppingError(_TOO_LATE))
        self.crew.join(LAST_BATCH_S)
        self._beside.shutdown(cancel_futures=True)
        for job in self.all():
            if job.is_over:
                continue
            if job.durable:
                job.log.add("stopped", detail=_STOPPED)
            else:
                self.fail(job, JobInterruptedError("interrupted by the server's stop"))

    # What workers tell.

    def began(self, job: Job) -> None:
        job.begin()
        self._note(job, must=False)

    def run(self, job: Job, errand: Errand) -> None:
        if not self._stopping:
            self._beside.submit(self._run, job, errand)

    def finish(self, job: Job, answer: Answer) -> None:
        fields = answer.fields()
        if job.end("done", "result", fields, answer):
            self._leave(job, fields)
        job.close()

    def fail(self, job: Job, error: Exception) -> None:
        failure = self._desk.told(error, job.job_id)
        fields = {name: failure[name] for name in ("error", "detail", "hint")}
        if job.end("failed", "error", fields, error, failure):
            self._leave(job, fields)
        job.close()

    def _run(self, job: Job, errand: Errand) -> None:
        job.bring(errand)
        if not self.queue.put_back(job):
            job.close()

    def _leave(self, job: Job, fields: dict[str, Any]) -> None:
        """After its end, with its last event's fields: everything that it held is free."""
        self.queue.leave(job)
        self._pace.took(job)
        self._release(job)
        self._note(job, fields, must=False)
        with self._lock:
            is_known = self._jobs.get(job.job_id) is job
            if is_known:
                self.ended.add(job)
                self._expire()
        if job.durable and not is_known:  # forgotten since its end
            self._journal.remove(job.job_id)

    def _release(self, job: Job) -> None:
        held, job.holds = job.holds, []
        self._holds.release(held)

    def _lost(self) -> None:
        """The last worker is out: nobody answers any more."""
        self.queue.close(NoWorkerError(_LOST))
        for job in self.all():
            if not job.is_over:
                self.fail(job, NoWorkerError(_LOST))

    def _line_up(self, job: Job) -> None:
        with self._lock:
            self._jobs[job.job_id] = job
        try:
            self.queue.add(job)
        except JobError:
            self.forget(job)
            raise

    def _expire(self) -> None:
        for job in self.ended.expired():
            self.forget(job)

    def _note(self, job: Job, end: dict[str, Any] | None = None, must: bool = True) -> None:
        """Into the journal, where it belongs there; `end` is for whoever ended it.

        Raises JournalError where it must be.
        """
        with job.noting:
            if not job.durable or (job.is_over and end is None):
                return
            try:
                self._journal.write(record_of(job, end))
            except BirdError:
                if must:
                    raise
                logger.exception("job %s is not in the journal as it is now", job.job_id)

    def _take_up(self, job: Job) -> None:
        """Why a job cannot go on is its end, for its client to read."""
        with self._lock:
            self._jobs[job.job_id] = job
            if job.is_over:
                self.ended.add(job)
                return
        try:
            if job.attempt > MAX_ATTEMPTS:
                raise JobInterruptedError(
                    f"the server ended {MAX_ATTEMPTS} times during this job; it is not tried again"
                )
            self.take_on(job)
        except StoppingError:
            self._note(job, must=False)  # for the next start
        except BirdError as error:
            self.fail(job, error)
