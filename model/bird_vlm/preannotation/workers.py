"""Who asks: this process, or processes of this machine with a model each.

A worker gets one case at a time, so that it is known which case a worker that dies had. Knows
nothing about what is done with a case.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from typing import Protocol

from bird_vlm.interrupts import interrupts_wait
from bird_vlm.preannotation.annotating import Annotator, ShowSlices, Stopped
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.job import Job
from bird_vlm.preannotation.records import Record


class WorkerDied(Exception):  # noqa: N818
    """A worker ended over a case: killed, out of memory, or crashed."""


class Worker(Protocol):
    """Takes one case after the other."""

    def ask(self, case: Case) -> Future[Record]:
        """Begin with a case."""

    def result(self, future: Future[Record]) -> Record:
        """Of a future of `ask` that is done. Raises WorkerDied, and what `annotate` raises."""

    def restart(self) -> None:
        """Another worker in the place of one that died."""

    def stop(self) -> None:
        """Call off what is under way; does not wait."""

    def close(self) -> None:
        """Returns when nothing is under way any more."""


class ThisProcess:
    """Asks at once, and shows the slices of the case."""

    def __init__(self, annotator: Annotator, show: ShowSlices) -> None:
        self.annotator, self.show = annotator, show

    def ask(self, case: Case) -> Future[Record]:
        future: Future[Record] = Future()
        future.set_result(self.annotator.annotate(case, self.show))
        return future

    def result(self, future: Future[Record]) -> Record:
        return future.result()

    def restart(self) -> None:
        raise AssertionError("this process cannot have died")

    def stop(self) -> None:
        """Nothing goes on once `ask` has returned."""

    def close(self) -> None:
        """As `stop`."""


class OtherProcess:
    """A process of this machine."""

    def __init__(self, job: Job, threads: int) -> None:
        self.job, self.threads = job, threads
        self.context = multiprocessing.get_context("spawn")
        self.stopped = self.context.Event()
        self.restart()

    def restart(self) -> None:
        self.pool = ProcessPoolExecutor(
            1, self.context, initializer=_begin, initargs=(self.job, self.threads, self.stopped)
        )

    def ask(self, case: Case) -> Future[Record]:
        with interrupts_wait():
            return self.pool.submit(_annotate, case)

    def result(self, future: Future[Record]) -> Record:
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise WorkerDied(type(error).__name__) from error

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.stop()
        self.pool.shutdown(cancel_futures=True)


_of_this_worker: list[tuple[Annotator, Event]] = []


def _begin(job: Job, threads: int, stopped: Event) -> None:
    """Ctrl-C reaches all processes of a terminal; only the main one decides what follows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.captureWarnings(True)
    threading.Thread(target=_follow_the_main_process, daemon=True).start()
    _of_this_worker[:] = [(Annotator(job, threads), stopped)]


def _annotate(case: Case) -> Record:
    [(annotator, stopped)] = _of_this_worker

    def check(done: int, total: int) -> None:
        if stopped.is_set():
            raise Stopped

    check(0, 0)
    return annotator.annotate(case, check)


def _follow_the_main_process() -> None:
    """A main process that was killed cannot tell its workers to end."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
