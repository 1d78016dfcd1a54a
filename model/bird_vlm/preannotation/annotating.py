"""One case from its file to its results. A worker has one `Annotator`, and that one model.

Puts reading, asking and writing together; knows nothing about other cases or processes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bird_vlm.contract import GroundingResult, to_json
from bird_vlm.errors import BirdError, CheckpointError
from bird_vlm.markups import markups_json
from bird_vlm.outputs import write_json
from bird_vlm.preannotation import records
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.job import Job
from bird_vlm.preannotation.layout import MARKUPS, RESULT, THUMBNAIL
from bird_vlm.preannotation.records import Record
from bird_vlm.preannotation.thumbnail import best_slice, save_thumbnail

if TYPE_CHECKING:
    from bird_vlm.engine import Engine
    from bird_vlm.volumes import Volume

ShowSlices = Callable[[int, int], None]  # answered, to be answered
logger = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818
    """The run was called off while a worker was at a case."""


class OutputError(BirdError):
    """Results cannot be written: no case can go on."""


class Annotator:
    """Asks one case after the other; the model is loaded for the first of them."""

    def __init__(self, job: Job, threads: int | None = None) -> None:
        self.job, self.threads = job, threads
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """Raises CheckpointError where it cannot be loaded."""
        if self._engine is None:
            from bird_vlm.engine import load_engine

            if self.threads:
                import torch

                torch.set_num_threads(self.threads)
            self._engine = load_engine(self.job.model, self.job.running)
        return self._engine

    def annotate(self, case: Case, show: ShowSlices = lambda done, total: None) -> Record:
        """Ask about a case and leave its results; a case that cannot be asked leaves the reason.

        `show` may raise Stopped to call it off; then the case is left as not asked. Raises
        CheckpointError for a model, and OutputError for an output folder, that no case could use.
        """
        engine, job = self.engine, self.job
        folder = _writing(records.clear, job.out, case)
        digest = None
        try:
            digest = case.digest()
            record = self._asked(engine, case, digest, folder, show)
        except (CheckpointError, OutputError, Stopped):
            raise
        except Exception as error:  # whatever a scan does to a reader, the run goes on
            _writing(records.clear, job.out, case)
            record = records.failed(case, digest, job.asked_for, _told(error))
        return _writing(records.write_record, job.out, case, record)

    def _asked(
        self, engine: Engine, case: Case, digest: str, folder: Path, show: ShowSlices
    ) -> Record:
        from bird_vlm.slices import slice_stack

        started = time.perf_counter()
        volume = case.read()
        read = time.perf_counter()
        result = grounded(engine, volume, self.job, show)
        stack = slice_stack(volume.geometry(), result.plane)
        shown = best_slice(result.findings, stack)
        timing_s = {
            "read": round(read - started, 3),
            **result.timing_s,
            "total": round(time.perf_counter() - started, 3),
        }
        _writing(write_json, folder / RESULT, to_json(result))
        _writing(write_json, folder / MARKUPS, markups_json(result))
        _writing(save_thumbnail, folder / THUMBNAIL, volume, result, shown, self.job.labels)
        return records.done(case, digest, self.job.asked_for, result, shown, timing_s)


def grounded(engine: Engine, volume: Volume, job: Job, show: ShowSlices) -> GroundingResult:
    """The answers to all labels of a job, as if they were one request."""
    from bird_vlm.volume import grounding_events

    results: list[GroundingResult] = []
    for request in job.requests():
        before = sum(result.asked for result in results)
        for event in grounding_events(engine, volume, request):
            if isinstance(event, GroundingResult):
                results.append(event)
            else:
                total = event.total * len(job.labels) // len(request.labels)
                show(before + event.done, total)
    return joined(results)


def joined(results: list[GroundingResult]) -> GroundingResult:
    """Results about one volume as one, in their order."""
    first = results[0]
    return GroundingResult(
        volume=first.volume,
        model=first.model,
        plane=first.plane,
        window=first.window,
        findings=tuple(finding for result in results for finding in result.findings),
        absent=tuple(label for result in results for label in result.absent),
        unreadable=sum(result.unreadable for result in results),
        asked=sum(result.asked for result in results),
        timing_s={
            name: round(sum(result.timing_s[name] for result in results), 3)
            for name in first.timing_s
        },
    )


def _told(error: Exception) -> str:
    """One line for people; what nobody foresaw is logged whole."""
    if isinstance(error, BirdError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "needs more memory than there is; crop or resample it, or use fewer --workers"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    logger.error("a case failed", exc_info=error)
    return f"failed in a way nobody foresaw ({type(error).__name__}: {error})"


def _writing(write: Callable, *arguments: object) -> object:
    """`write(*arguments)`; a full or vanished disk stops the run instead of failing each case."""
    try:
        return write(*arguments)
    except OSError as error:
        raise OutputError(
            f"out: cannot be written to ({error}); with that mended, the same command goes on"
        ) from error
