"""One job: what was asked, how far it is, and what came of it.

Whoever takes a job out of the queue is the only one who advances or closes it until it is put back;
anybody may cancel it. Knows nothing about queues, files or HTTP.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from queue import SimpleQueue
from typing import Any, Literal, get_args

from bird_server.jobs.events import EventLog, encoded
from bird_server.jobs.questions import Kind, Question
from bird_server.jobs.steps import Answer, Device, Errand, Steps, Told
from bird_server.model import Model

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
Tap = SimpleQueue  # of Told, then Answer or the error: what listeners of this process hear


class Job:
    """A question on its way."""

    def __init__(
        self,
        kind: Kind,
        steps: Callable[[], Steps],
        client: str = "",
        question: Question | None = None,
        job_id: str | None = None,
        tap: Tap | None = None,
    ) -> None:
        """`question` is what the journal keeps; a job without one ends with this process."""
        self.job_id = job_id or uuid.uuid4().hex
        self.kind, self.client, self.question = kind, client, question
        self.durable = False
        self.holds: list[str] = []  # volumes that stay because of it
        self.state: State = "queued"
        self.done, self.total = 0, None
        self.created: str = utc_now()
        self.started: str | None = None
        self.finished: str | None = None
        self.attempt = 1
        self.failure: dict[str, Any] | None = None  # status, error, detail, hint
        self.log = EventLog()
        self.worker: object | None = None  # which one has to go on with it; None = any
        self._make_steps, self._steps = steps, None
        self._inbox: Any = None
        self._tap = tap
        self._lock = threading.Lock()
        self.noting = threading.Lock()  # of whoever writes it into the journal

    @property
    def is_long(self) -> bool:
        """Whether it takes many batches."""
        return self.kind in ("ground", "batch")

    @property
    def is_over(self) -> bool:
        return self.finished is not None

    def volume_ids(self) -> list[str]:
        return self.question.volume_ids() if self.question else []

    def begin(self) -> None:
        """The first worker has it; one that was cancelled just now stays cancelled."""
        with self._lock:
            if self.state == "queued":
                self.state, self.started = "running", utc_now()
        self._steps = self._make_steps()

    @property
    def has_begun(self) -> bool:
        return self._steps is not None

    def advance(self, worker: object, model: Model) -> Errand | Answer | None:
        """One step: an errand to be run, the answer, or None where there is more to do."""
        value, self._inbox = self._inbox, None
        try:
            failed = isinstance(value, _Raised)
            step = self._steps.throw(value.error) if failed else self._steps.send(value)
            if isinstance(step, Device):
                self.worker = worker
                step = self._steps.send(model)
        except StopIteration as end:
            return end.value
        if isinstance(step, Errand):
            self.worker = None
            return step
        self._tell(step)
        return None

    def bring(self, errand: Errand) -> None:
        """Runs an errand; what it returns or raises is there at the next step."""
        try:
            self._inbox = errand.run()
        except Exception as error:
            self._inbox = _Raised(error)

    def close(self) -> None:
        """Lets go of the model and the volume; only for whoever holds the job, which is over."""
        steps, self._steps, self._inbox = self._steps, None, None
        self._make_steps = self._tap = None
        if steps is not None:
            steps.close()

    def end(
        self,
        state: State,
        event: str,
        fields: dict[str, Any],
        value: Answer | Exception,
        failure: dict[str, Any] | None = None,
    ) -> bool:
        """The end, told to all; False where it was over before. `value` is for the tap.

        Raises ValueError, and the job is not over, for fields that JSON cannot hold.
        """
        told = encoded(fields)
        with self._lock:
            if self.is_over:
                return False
            self.state, self.failure, self.finished = state, failure, utc_now()
            tap = self._tap
        self.log.add_encoded(event, told)
        if tap is not None:
            tap.put(value)
        return True

    def json(self, ahead: int = 0) -> dict[str, Any]:
        """Its state as clients read it; `ahead` = jobs that wait before it."""
        failure = self.failure and {k: v for k, v in self.failure.items() if k != "status"}
        names = ("job_id", "kind", "state", "done", "total", "created", "started", "finished")
        told = {name: getattr(self, name) for name in (*names, "attempt")}
        return told | {"ahead": ahead, "error": failure}

    def _tell(self, told: Told) -> None:
        self.done, self.total = told.done, told.total
        self.log.add(told.name, done=told.done, total=told.total, **told.fields)
        if self._tap is not None:
            self._tap.put(told)


class _Raised:
    """An errand's failure, on its way back into the steps."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def utc_now() -> str:
    """ISO 8601 with milliseconds, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
