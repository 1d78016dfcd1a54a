"""Runs a task over numbers, in processes of this machine or on Ray; both leave the same files.

Knows nothing about pictures.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing.synchronize import Event
from typing import Literal

from bird_training.building.stopping import listen_for
from bird_vlm.errors import BirdError
from bird_vlm.interrupts import interrupts_wait

Engine = Literal["local", "ray"]
Task = Callable[[int], None]
Show = Callable[[int, int], None]  # done, total
_MOST_BLOCKS = 4096


def run(task: Task, numbers: Sequence[int], *, engine: Engine, workers: int, show: Show) -> None:
    """`task(number)` for each of `numbers`, in any order.

    An interruption (KeyboardInterrupt) ends the workers before it goes on. Raises BirdError where a
    task does, a worker dies or Ray is not installed.
    """
    if not numbers:
        return
    show(0, len(numbers))
    if engine == "ray":
        _run_ray(task, numbers, workers, show)
    elif workers == 1:
        for done, number in enumerate(numbers, start=1):
            task(number)
            show(done, len(numbers))
    else:
        _run_processes(task, numbers, workers, show)


def _run_processes(task: Task, numbers: Sequence[int], workers: int, show: Show) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(stop,))
    waiting, running, done = iter(numbers), set(), 0
    try:
        while True:
            for number in waiting:
                with interrupts_wait():
                    running.add(pool.submit(task, number))
                if len(running) >= 2 * workers:
                    break
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                done += 1
            show(done, len(numbers))
    except BrokenProcessPool as error:
        raise BirdError(
            "a worker died, perhaps for lack of memory; "
            "the same command goes on, with fewer --workers too"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _start_worker(stop: Event) -> None:
    """Ctrl-C reaches every process of the terminal; only the main one decides what follows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listen_for(stop)


def _run_ray(task: Task, numbers: Sequence[int], workers: int, show: Show) -> None:
    if not all(map(find_spec, ("ray", "pyarrow"))):
        raise BirdError("engine: Ray Data is missing; pip install 'ray[data]', or --engine local")
    import ray
    import ray.data

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
        ray.data.DataContext.get_current().enable_progress_bars = False
        blocks = min(len(numbers), _MOST_BLOCKS)
        rows = ray.data.from_items([{"number": n} for n in numbers], override_num_blocks=blocks)
        finished = rows.map(lambda row: _done(task, row["number"])).iter_rows()
        for done, _ in enumerate(finished, start=1):
            show(done, len(numbers))
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, BirdError) else error from error
    finally:
        if started:
            ray.shutdown()


def _done(task: Task, number: int) -> dict[str, int]:
    task(number)
    return {"number": number}
