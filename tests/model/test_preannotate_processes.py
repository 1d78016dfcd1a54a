"""`bird preannotate` in processes that are told to stop, killed, or managed by Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.job import Job
from bird_vlm.preannotation.records import Record, read_record
from bird_vlm.preannotation.run import run
from bird_vlm.preannotation.wanted import Wanted
from bird_vlm.preannotation.workers import OtherProcess
from preannotating import LABELS, ask, out_of, outputs, save_noise, share

PROGRAM = (
    "import typer; from bird_vlm.commands.preannotate import preannotate; "
    "app = typer.Typer(pretty_exceptions_enable=False); app.command()(preannotate); app()"
)


@pytest.fixture(autouse=True)
def one_model_for_all(bird_mini, monkeypatch) -> None:
    share(bird_mini, monkeypatch)


@contextmanager
def started(root: Path, *arguments: object) -> Iterator[subprocess.Popen]:
    """The command in a process of its own, which does not outlive the test."""
    command = [sys.executable, "-c", PROGRAM, root, *LABELS, *arguments]
    running = subprocess.Popen(
        [str(part) for part in command],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def wait_for(what: Callable[[], bool], running: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 400
    while not what():
        assert running is None or running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)


def records_in(out: Path) -> int:
    return len(list(out.glob("cases/*/case.json")))


def save_long_list(root: Path) -> Path:
    """Scans that take a while, so that a signal finds a run at work."""
    for seed in range(8):
        save_noise(root / f"{seed}.nii.gz", seed, (32, 32, 16))
    return root


@pytest.fixture
def a_long_list(tmp_path) -> Path:
    return save_long_list(tmp_path / "long")


@pytest.fixture(scope="module")
def unbroken(bird_mini, tmp_path_factory) -> dict[str, bytes | object]:
    """What a run over the long list leaves that nobody stops."""
    root = save_long_list(tmp_path_factory.mktemp("once") / "long")
    with pytest.MonkeyPatch.context() as patch:
        share(bird_mini, patch)
        assert ask(root, *LABELS).exit_code == 0
    return outputs(out_of(root))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_cleanly_and_kill_loses_one_case_at_most(a_long_list, workers, unbroken):
    out = out_of(a_long_list)
    for sent, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = records_in(out)
        with started(a_long_list, "--workers", workers) as running:
            wait_for(lambda before=before: records_in(out) > before, running)
            workers_of = psutil.Process(running.pid).children(recursive=True)
            if sent == signal.SIGINT:
                os.killpg(running.pid, sent)  # as a terminal does: to every process
            else:
                running.send_signal(sent)
            told, _ = running.communicate(timeout=400)
        assert running.returncode == status, told
        assert "Traceback" not in told
        psutil.wait_procs(workers_of, timeout=60)
        assert not [one for one in workers_of if one.is_running()]  # nobody goes on alone
    assert 2 <= records_in(out) < 8
    assert ask(a_long_list, *LABELS).exit_code == 0
    assert outputs(out) == unbroken


class Poison:
    """Watches a run, and kills the worker that gets a certain case."""

    def __init__(self, name: str) -> None:
        self.name, self.records = name, {}

    def started(self, case: Case) -> None:
        if case.name == self.name:
            threading.Thread(target=self._kill).start()

    def finished(self, case: Case, record: Record) -> None:
        self.records[case.name] = record

    def _kill(self) -> None:
        wait_for(lambda: bool(self._workers()))
        for worker in self._workers():
            worker.kill()

    def _workers(self) -> list[psutil.Process]:
        children = psutil.Process().children()
        return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_case_only(tmp_path):
    cases = [Case(f"{n}", (save_noise(tmp_path / f"{n}.nii.gz", n),)) for n in range(3)]
    job = Job(tmp_path / "out", (Wanted("liver"),), asked_for="test")
    watcher = Poison("0")
    run(job, cases, [OtherProcess(job, threads=1)], watcher)
    assert {name: record.status for name, record in watcher.records.items()} == {
        **{"0": "failed"},
        **{"1": "done", "2": "done"},
    }
    assert "died" in watcher.records["0"].error
    assert read_record(job.out, cases[0]) == watcher.records["0"]


@pytest.mark.slow
def test_ray_leaves_the_same_files(a_ward, the_annotated_ward, tmp_path):
    pytest.importorskip("ray", reason="needs the optional Ray")
    there = tmp_path / "by ray"
    result = ask(a_ward, *LABELS, "--engine", "ray", "--workers", 2, "--out", there)
    assert result.exit_code == 1, result.output
    assert outputs(there) == outputs(out_of(the_annotated_ward))


def test_ray_is_named_where_it_is_missing(a_ward, monkeypatch):
    monkeypatch.setattr("bird_vlm.preannotation.ray_workers.find_spec", lambda name: None)
    result = ask(a_ward, *LABELS, "--engine", "ray")
    assert (result.exit_code, "Ray is missing" in result.output) == (2, True)
