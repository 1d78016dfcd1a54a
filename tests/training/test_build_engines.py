"""Tasks in several processes: all done once, failures told in one line, nothing left running."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bird_training.building.engines import run
from bird_training.building.stopping import Stopped, check_stop, listen_for
from bird_vlm.errors import BirdError


@dataclass(frozen=True)
class Mark:
    """Leaves a file per number; `fails` and `dies` at some."""

    folder: Path
    fails: int = -1
    dies: int = -1

    def __call__(self, number: int) -> None:
        if number == self.fails:
            raise BirdError(f"number {number} is bad")
        if number == self.dies:
            os._exit(1)
        check_stop()
        time.sleep(0.01)
        (self.folder / str(number)).write_text(str(os.getpid()))


def marked(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir()}


def nothing(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("workers", [1, 2])
def test_every_number_is_done_and_progress_ends_at_all(tmp_path, workers):
    shown = []
    run(
        Mark(tmp_path),
        range(30),
        engine="local",
        workers=workers,
        show=lambda done, total: shown.append((done, total)),
    )
    assert marked(tmp_path) == set(range(30))
    assert shown[0] == (0, 30)
    assert shown[-1] == (30, 30)
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)


def test_work_is_done_elsewhere(tmp_path):
    run(Mark(tmp_path), range(8), engine="local", workers=2, show=nothing)
    assert str(os.getpid()) not in {path.read_text() for path in tmp_path.iterdir()}


def test_no_numbers_are_no_work(tmp_path):
    run(Mark(tmp_path), range(0), engine="local", workers=2, show=nothing)
    assert marked(tmp_path) == set()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_is_raised_as_it_was(tmp_path, workers):
    with pytest.raises(BirdError, match="number 5 is bad"):
        run(Mark(tmp_path, fails=5), range(300), engine="local", workers=workers, show=nothing)
    assert len(marked(tmp_path)) < 300


def test_a_worker_that_dies_is_told_with_what_to_do(tmp_path):
    with pytest.raises(BirdError, match=r"a worker died.*--workers"):
        run(Mark(tmp_path, dies=3), range(20), engine="local", workers=2, show=nothing)


def test_work_that_was_called_off_stops():
    stop = multiprocessing.get_context("spawn").Event()
    listen_for(stop)
    check_stop()
    stop.set()
    with pytest.raises(Stopped):
        check_stop()
    stop.clear()
