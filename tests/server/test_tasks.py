"""Long work in this process: one of a kind at a time, looked after and stopped."""

from __future__ import annotations

import threading

import pytest

from bird_server.learning.tasks import MAX_DETAILS, Task, TaskBoard, current_task
from bird_vlm.errors import BirdError
from scripted import wait_until


@pytest.fixture
def a_board():
    board = TaskBoard()
    yield board
    board.end()


@pytest.fixture
def a_gate():
    """Work waits until this is set; it is at the end of the test."""
    gate = threading.Event()
    yield gate
    gate.set()


def waiting(gate):
    def work(_request):
        while not gate.wait(0.01):
            current_task().check_stop()
        return {"asked": current_task().request}

    return work


def over(task: Task) -> Task:
    wait_until(lambda: task.is_over, seconds=30)
    return task


def test_a_task_runs_and_tells_its_result(a_board, a_gate):
    a_gate.set()

    task = over(a_board.start("train", {"model": "bird"}, waiting(a_gate)))

    assert task.status == "DONE"
    assert task.json()["result"] == {"asked": {"model": "bird"}}
    assert {"id", "status", "start_ts", "end_ts", "details"} <= set(task.json())


def test_one_task_of_a_kind_runs_at_a_time(a_board, a_gate):
    first = a_board.start("train", {}, waiting(a_gate))
    wait_until(lambda: first.status == "RUNNING", seconds=30)

    assert a_board.start("train", {}, waiting(a_gate)) is None
    queued = a_board.start("train", {}, waiting(a_gate), enqueue=True)
    other = a_board.start("scoring", {}, lambda request: 5)
    assert over(other).result == 5
    assert (queued.status, a_board.running("train")) == ("SUBMITTED", first)
    a_gate.set()
    assert over(queued).status == "DONE"


def test_stopping_ends_the_running_task_and_those_that_wait(a_board, a_gate):
    first = a_board.start("train", {}, waiting(a_gate))
    queued = a_board.start("train", {}, waiting(a_gate), enqueue=True)

    assert a_board.stop("train") in (first, queued)

    assert (over(first).status, over(queued).status) == ("STOPPED", "STOPPED")
    assert a_board.running("train") is None
    assert a_board.stop("train") is None


def test_a_failure_is_told_in_the_task(a_board, caplog):
    def wrong(_request):
        raise BirdError("cases: there are none")

    def broken(_request):
        raise KeyError("secret")

    refused = over(a_board.start("train", {}, wrong))
    failed = over(a_board.start("train", {}, broken))

    assert (refused.status, refused.details[-1]) == ("ERROR", "cases: there are none")
    assert (failed.status, "secret" in failed.details[-1]) == ("ERROR", False)
    assert "secret" in caplog.text
    caplog.clear()


def test_details_are_the_last_lines():
    task = Task("train", {})

    for number in range(100):
        task.note(f"line {number}" + "x" * 1000)

    assert len(task.details) == MAX_DETAILS
    assert task.details[-1].startswith("line 99")
    assert len(task.details[-1]) == 500


def test_outside_a_task_there_is_one_that_nobody_looks_at(a_board):
    current_task("scoring").note("unheard")

    assert current_task("scoring").details == current_task().details


def test_the_end_of_the_process_stops_what_runs(a_gate):
    board = TaskBoard()
    task = board.start("train", {}, waiting(a_gate))

    board.end()

    assert task.status == "STOPPED"
