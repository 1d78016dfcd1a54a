"""A whole pre-annotation: find the cases, keep what is done, ask the rest, write index and page.

Knows the order of the steps; the command only reads its options.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from bird_vlm.console import progress
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json
from bird_vlm.preannotation.annotating import Annotator
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.index import index_json
from bird_vlm.preannotation.job import Job, begin, described, fingerprint
from bird_vlm.preannotation.layout import INDEX, LOCK, PAGE
from bird_vlm.preannotation.page import page_html
from bird_vlm.preannotation.records import Record
from bird_vlm.preannotation.run import run, standing
from bird_vlm.preannotation.showing import Showing, showing
from bird_vlm.preannotation.studies import Studies
from bird_vlm.preannotation.workers import OtherProcess, ThisProcess, Worker

Where = Literal["local", "ray"]
_REFRESH_S = 30.0  # between two writings of the index while a run goes on


@dataclass(frozen=True)
class Options:
    """How a run is done; none of it changes an answer."""

    where: Where = "local"
    workers: int = 1
    retry_failed: bool = False
    again: bool = False


class Preannotation:
    """One run over one folder of scans.

    Raises BirdError where the folder, the labels, the model or the output cannot be used.
    """

    def __init__(self, studies: Studies, job: Job, options: Options) -> None:
        if not studies.cases:
            raise BirdError(
                f"studies: {studies.root} holds no scans ({len(studies.skipped)} things skipped); "
                "give a folder with NIfTI, NRRD, MetaImage, PNG, JPEG or DICOM files"
            )
        self.cases, self.skipped = studies.cases, studies.skipped
        self.options, self.records = options, dict[Case, Record]()
        self.device = _device(job)
        self.told = described(job, self.device)
        self.job = replace(job, asked_for=fingerprint(self.told))
        self.written_at = 0.0

    def run(self) -> dict[str, Any]:
        """Ask what is not answered yet; the content of `index.json`.

        The same command goes on after any interruption, Ctrl-C included, and ends with the same
        files, times aside.
        """
        with _alone(self.job.out):
            begin(self.job.out, self.told, again=self.options.again)
            with progress("looking at what is there") as show:
                self.records = standing(
                    self.job, self.cases, retry_failed=self.options.retry_failed, show=show
                )
            left = [case for case in self.cases if case not in self.records]
            self._write_index()
            try:
                if left:
                    self._ask(left)
            finally:
                index = self._write_index()
        return index

    def _ask(self, left: Sequence[Case]) -> None:
        with showing(len(left), self._keep) as watcher, self._workers(watcher, left) as workers:
            run(self.job, left, workers, watcher)

    @contextmanager
    def _workers(self, watcher: Showing, left: Sequence[Case]) -> Iterator[list[Worker]]:
        count = min(self.options.workers, len(left))
        threads = max(1, (os.cpu_count() or 1) // count)
        with ExitStack() as stack:
            if self.options.where == "ray":
                from bird_vlm.preannotation.ray_workers import RayWorker, ray_cluster

                gpus = int(self.device == "cuda")
                stack.enter_context(ray_cluster(count, gpus))
                yield [RayWorker(self.job, threads, gpus) for _ in range(count)]
            elif count == 1:
                yield [ThisProcess(Annotator(self.job), watcher.slices)]
            else:
                yield [OtherProcess(job, threads) for job in _over_devices(self.job, count)]

    def _keep(self, case: Case, record: Record) -> None:
        self.records[case] = record
        if time.monotonic() - self.written_at > _REFRESH_S:
            self._write_index()

    def _write_index(self) -> dict[str, Any]:
        index = index_json(self.job, self.told, self.cases, self.records, self.skipped)
        try:
            write_json(self.job.out / INDEX, index)
            page = self.job.out / PAGE
            unfinished = page.with_name(f".{page.name}.unfinished")
            unfinished.write_text(page_html(index), encoding="utf-8")
            unfinished.replace(page)
        except OSError as error:
            raise BirdError(f"out: cannot be written to ({error})") from error
        self.written_at = time.monotonic()
        return index


def _device(job: Job) -> str:
    """The kind of device that answers; what the model does not know is refused here.

    Raises CheckpointError where there is no such model or device, and UnknownLabelError.
    """
    if job.running.backend:
        return job.running.backend.url
    from bird_vlm.catalogue.names import model_path
    from bird_vlm.loading import device_of
    from bird_vlm.model_card import ModelCard, read_labels
    from bird_vlm.volume import check_labels

    device = device_of(job.running).type
    card = ModelCard(job.model, read_labels(model_path(job.model)))
    check_labels(card, job.labels)
    return device


def _over_devices(job: Job, count: int) -> list[Job]:
    """The job for each of `count` processes, spread over the machine's accelerators."""
    from bird_vlm.loading import device_of

    if job.running.backend or job.running.device not in (None, "cuda"):
        return [job] * count
    import torch

    if device_of(job.running).type != "cuda":
        return [job] * count
    devices = torch.cuda.device_count()
    return [
        replace(job, running=replace(job.running, device=f"cuda:{number % devices}"))
        for number in range(count)
    ]


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Nobody else writes to `out` meanwhile. Raises BirdError where somebody does."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise BirdError(f"out: another run writes to {out}; wait for it, or give --out") from error
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BirdError(f"out: {out} cannot be a folder ({error}); give --out") from error
