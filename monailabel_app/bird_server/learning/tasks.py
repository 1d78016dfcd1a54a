"""Long work that a client starts and looks after: training, scoring, inference over many images.

One task of a kind runs at a time, in a thread of this process; the others wait. Shapes and statuses
are those of MONAI Label, whose own runner starts a second server process instead. Knows nothing
about HTTP or what the work is.
"""

from __future__ import annotations

import atexit
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from bird_vlm.errors import BirdError

Kind = Literal["train", "batch_infer", "scoring"]
Work = Callable[[dict[str, Any]], Any]
MAX_DETAILS = 20  # lines kept of a task
MAX_TASKS = 50  # finished tasks kept of a kind
_END_PATIENCE_S = 15.0
logger = logging.getLogger(__name__)
_here = threading.local()


class TaskStoppedError(BirdError):
    """The task was asked to stop, and did."""


@dataclass
class Task:
    """One piece of work."""

    kind: Kind
    request: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: Literal["SUBMITTED", "RUNNING", "DONE", "ERROR", "STOPPED"] = "SUBMITTED"
    start_ts: str = field(default_factory=lambda: _now())
    end_ts: str | None = None
    details: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_DETAILS))
    progress: dict[str, Any] | None = None
    result: Any = None
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        return self.end_ts is not None

    def note(self, line: str) -> None:
        """A line for whoever looks at the task."""
        self.details.append(line[:500])

    def at(self, phase: str, done: int, total: int) -> None:
        self.progress = {"phase": phase, "done": done, "total": total}

    def check_stop(self) -> None:
        """Raises TaskStoppedError once somebody has asked for it."""
        if self.stopping.is_set():
            raise TaskStoppedError("stopped")

    def json(self) -> dict[str, Any]:
        told = {"id": self.id, "status": self.status, "request": self.request}
        told |= {"start_ts": self.start_ts, "details": list(self.details)}
        told |= {"progress": self.progress, "result": self.result}
        return told | ({"end_ts": self.end_ts} if self.end_ts else {})


class TaskBoard:
    """The tasks of this process, by kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[Kind, list[Task]] = {}
        self._turns: dict[Kind, threading.Lock] = {}
        self._threads: set[threading.Thread] = set()
        atexit.register(self.end)

    def start(
        self, kind: Kind, request: dict[str, Any], work: Work, enqueue: bool = False
    ) -> Task | None:
        """A task that runs as soon as no other of its kind does.

        None where one runs or waits and `enqueue` is false.
        """
        with self._lock:
            tasks = self._tasks.setdefault(kind, [])
            if not enqueue and any(not task.is_over for task in tasks):
                return None
            over = [task for task in tasks if task.is_over]
            for old in over[: max(0, len(over) - MAX_TASKS + 1)]:
                tasks.remove(old)
            task = Task(kind, request)
            tasks.append(task)
            turn = self._turns.setdefault(kind, threading.Lock())
            thread = threading.Thread(
                target=self._run, args=(task, work, turn), name=f"task-{kind}", daemon=True
            )
            self._threads.add(thread)
        thread.start()
        return task

    def tasks(self, kind: Kind) -> list[Task]:
        """The oldest first."""
        with self._lock:
            return list(self._tasks.get(kind, ()))

    def running(self, kind: Kind) -> Task | None:
        """The one that runs, else the first that waits."""
        left = [task for task in self.tasks(kind) if not task.is_over]
        return next((task for task in left if task.status == "RUNNING"), left[0] if left else None)

    def stop(self, kind: Kind) -> Task | None:
        """Asks the running task to stop and drops those that wait; the one asked, if any."""
        asked = self.running(kind)
        for task in self.tasks(kind):
            if not task.is_over:
                task.stopping.set()
        return asked

    def end(self) -> None:
        """At the end of the process: no task outlives it."""
        with self._lock:
            threads = list(self._threads)
            for tasks in self._tasks.values():
                for task in tasks:
                    task.stopping.set()
        for thread in threads:
            thread.join(_END_PATIENCE_S)

    def _run(self, task: Task, work: Work, turn: threading.Lock) -> None:
        with turn:
            _here.task = task
            try:
                task.check_stop()
                task.status = "RUNNING"
                task.result = work(task.request)
                _close(task, "DONE", "done")
            except TaskStoppedError as error:
                _close(task, "STOPPED", str(error))
            except BirdError as error:
                _close(task, "ERROR", str(error))
            except Exception:
                logger.exception("a task of the kind %s failed", task.kind)
                _close(task, "ERROR", "the server failed; its log tells why")
            finally:
                _here.task = None
                with self._lock:
                    self._threads.discard(threading.current_thread())


def current_task(kind: Kind = "train") -> Task:
    """The task that this thread works on; one that nobody looks at where there is none."""
    return getattr(_here, "task", None) or Task(kind, {})


def _close(task: Task, status: str, line: str) -> None:
    task.note(line)
    task.status, task.end_ts = status, _now()


def _now() -> str:
    """Local time, in the form that MONAI Label's clients read."""
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


BOARD = TaskBoard()
