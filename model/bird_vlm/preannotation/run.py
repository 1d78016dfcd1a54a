"""A run over all cases: which are done already, who asks the others, and what stops it.

Knows nothing about single slices or how results look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Protocol

from bird_vlm.errors import BirdError
from bird_vlm.preannotation import records
from bird_vlm.preannotation.annotating import OutputError
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.job import Job
from bird_vlm.preannotation.records import Record
from bird_vlm.preannotation.workers import Worker, WorkerDied

MANY_DEATHS = 5  # in a row: it is not the scans
DEATH = (
    "the worker that had it died, perhaps for lack of memory; try --retry-failed with fewer "
    "--workers, or crop the scan"
)


class Watcher(Protocol):
    """Is told how a run goes on."""

    def started(self, case: Case) -> None: ...

    def finished(self, case: Case, record: Record) -> None: ...


def standing(
    job: Job, cases: Sequence[Case], *, retry_failed: bool, show: Callable[[int, int], None]
) -> dict[Case, Record]:
    """Results of earlier runs that answer the same questions about the same bytes."""
    kept = {}
    for number, case in enumerate(cases, start=1):
        record = records.read_record(job.out, case)
        if record and _still_holds(record, case, job.asked_for, retry_failed):
            kept[case] = record
        show(number, len(cases))
    return kept


def _still_holds(record: Record, case: Case, asked_for: str, retry_failed: bool) -> bool:
    if record.asked_for != asked_for or record.case != case.name:
        return False
    if record.status == "failed" and retry_failed:
        return False
    try:
        return case.digest() == record.digest
    except OSError:  # asking the case again tells why
        return False


def run(job: Job, cases: Iterable[Case], workers: Sequence[Worker], watcher: Watcher) -> None:
    """Ask about `cases`, in any order; each is told to `watcher` as soon as its results lie there.

    Whatever stops the run, Ctrl-C too, stops the workers first. Raises what makes all cases
    impossible, such as CheckpointError and OutputError.
    """
    waiting, free, deaths = deque(cases), deque(workers), 0
    under_way: dict[Future[Record], tuple[Worker, Case]] = {}
    try:
        while waiting or under_way:
            while waiting and free:
                worker, case = free.popleft(), waiting.popleft()
                watcher.started(case)
                under_way[worker.ask(case)] = worker, case
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                worker, case = under_way.pop(future)
                record = _outcome(future, worker, case, job)
                watcher.finished(case, record)
                free.append(worker)
                deaths = deaths + 1 if record.error == DEATH else 0
                if deaths >= MANY_DEATHS:
                    raise BirdError(
                        f"workers: {deaths} of them died one after the other, perhaps for lack of "
                        "memory; go on with fewer --workers and --retry-failed"
                    )
    finally:
        for end in ("stop", "close"):
            for worker in workers:
                getattr(worker, end)()


def _outcome(future: Future[Record], worker: Worker, case: Case, job: Job) -> Record:
    """The record of a case; where the worker died over it, that is what the record says."""
    try:
        return worker.result(future)
    except WorkerDied:
        worker.restart()
        return _of_a_death(case, job)


def _of_a_death(case: Case, job: Job) -> Record:
    try:
        records.clear(job.out, case)
        return records.write_record(
            job.out, case, records.failed(case, _digest(case), job.asked_for, DEATH)
        )
    except OSError as broken:
        raise OutputError(f"out: cannot be written to ({broken})") from broken


def _digest(case: Case) -> str | None:
    try:
        return case.digest()
    except OSError:
        return None
