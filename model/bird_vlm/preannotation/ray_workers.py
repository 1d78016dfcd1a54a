"""Who asks: actors of a Ray cluster with a model each, on this machine or on many.

The folders of scans and results must be where every machine finds them under the same path. Knows
nothing about what is done with a case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from bird_vlm.errors import BirdError
from bird_vlm.preannotation.annotating import Annotator
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.job import Job
from bird_vlm.preannotation.records import Record
from bird_vlm.preannotation.workers import WorkerDied


def check_ray() -> None:
    """Raises BirdError where Ray is not installed."""
    if not find_spec("ray"):
        raise BirdError("engine: Ray is missing; pip install 'ray[data]', or --engine local")


@contextmanager
def ray_cluster(workers: int, gpus: int) -> Iterator[None]:
    """The cluster at RAY_ADDRESS, or one of this machine for as long as it is needed.

    Raises BirdError where it has less than a core, and `gpus`, for each of `workers`.
    """
    import ray

    started = not ray.is_initialized()
    if started:
        elsewhere = "RAY_ADDRESS" in os.environ
        ray.init(
            num_cpus=None if elsewhere else workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:
        check_room(ray.cluster_resources(), workers, gpus)
        yield
    finally:
        if started:
            ray.shutdown()


def check_room(has: Mapping[str, float], workers: int, gpus: int) -> None:
    """Ray would wait for ever for what there is not."""
    for name, each in (("CPU", 1), ("GPU", gpus)):
        if has.get(name, 0) < workers * each:
            raise BirdError(
                f"workers: {workers} need {workers * each} {name}s, and Ray has "
                f"{has.get(name, 0):g}; use fewer --workers"
            )


class RayWorker:
    """An actor."""

    def __init__(self, job: Job, threads: int, gpus: int) -> None:
        self.job, self.threads, self.gpus = job, threads, gpus
        self.actor: Any = None
        self.restart()

    def restart(self) -> None:
        import ray

        begin = ray.remote(num_cpus=1, num_gpus=self.gpus, max_restarts=0)(Annotator).remote
        self.actor = begin(self.job, self.threads)

    def ask(self, case: Case) -> Future[Record]:
        return self.actor.annotate.remote(case).future()

    def result(self, future: Future[Record]) -> Record:
        from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

        try:
            return future.result()
        except (RayActorError, OutOfMemoryError) as error:
            raise WorkerDied(type(error).__name__) from error
        except RayTaskError as error:
            raise error.cause from error

    def stop(self) -> None:
        import ray

        ray.kill(self.actor)

    def close(self) -> None:
        """`stop` has ended all there was."""
