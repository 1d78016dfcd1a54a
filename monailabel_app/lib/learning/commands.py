"""A command in a process of its own: its lines as they come, a time limit, and a way to stop it.

Knows nothing about what the command does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from bird_server.learning.tasks import Task, TaskStoppedError
from bird_vlm.errors import BirdError

_TICK_S = 0.5
_PATIENCE_S = 10.0  # from asking a process to end to ending it
_LAST_LINES = 5  # of a command that failed, in its error


class CommandFailedError(BirdError):
    """The command ended with an error, or took longer than it may."""


def run(
    command: Sequence[str],
    task: Task,
    until: float,
    on_line: Callable[[str], None],
    on_tick: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs `command` to its end, in a process group of its own.

    `environment` is added to this process's; `until` is on `time.monotonic()`'s clock. Raises
    TaskStoppedError when the task is stopped, and CommandFailedError, with the last lines, where
    the command fails or the time is over.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"} | (environment or {}),
    )
    last: deque[str] = deque(maxlen=_LAST_LINES)
    reader = threading.Thread(target=_read, args=(process, on_line, last), daemon=True)
    reader.start()
    try:
        _wait(process, task, until, on_tick)
    finally:
        _end(process)
        reader.join(_PATIENCE_S)
    if process.returncode:
        told = " | ".join(last) or "without a word"
        raise CommandFailedError(f"{_named(command)} ended with {process.returncode}: {told}")


def _wait(process: subprocess.Popen, task: Task, until: float, on_tick: Callable[[], None]) -> None:
    while process.poll() is None:
        if task.stopping.wait(0):
            raise TaskStoppedError("stopped; the model in use stays")
        if time.monotonic() > until:
            raise CommandFailedError("the time limit is over; raise max_minutes or lower steps")
        on_tick()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TICK_S)


def _read(process: subprocess.Popen, on_line: Callable[[str], None], last: deque[str]) -> None:
    for line in process.stdout:
        if line.strip():
            last.append(line.strip())
            on_line(line.strip())


def _end(process: subprocess.Popen) -> None:
    """The process, and all that it started: some of those outlive the first signal."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)


def _named(command: Sequence[str]) -> str:
    """What a command does, without paths, which are no one's concern."""
    words = [word for word in ("train", "predict") if word in command]
    return f"medgrit {words[0]}" if words else "the command"
