"""Whose turn is it: clients in turn, long jobs behind short ones, bounded lines."""

from __future__ import annotations

import threading

import pytest

from bird_server.jobs.errors import QueueFullError, StoppingError
from bird_server.jobs.job import Job
from bird_server.jobs.queue import FairQueue, QueueLimits

WORKER = object()


def a_job(client: str = "a", kind: str = "ask") -> Job:
    return Job(kind, iter, client)


def lined_up(*jobs: Job, limits: QueueLimits | None = None) -> FairQueue:
    queue = FairQueue(limits or QueueLimits())
    for job in jobs:
        queue.add(job)
    return queue


def taken(queue: FairQueue, count: int) -> list[Job]:
    """What a worker gets that puts every job back after one batch."""
    order = []
    for _ in range(count):
        order.append(queue.take(WORKER))
        queue.put_back(order[-1])
    return order


def test_clients_come_in_turn_however_many_jobs_each_has():
    many, one = [a_job("a") for _ in range(3)], a_job("b")
    queue = lined_up(*many, one)

    order = [queue.take(WORKER) for _ in range(4)]

    assert order == [many[0], one, many[1], many[2]]


def test_a_long_job_gives_way_after_each_batch():
    long, short = a_job("a", "ground"), a_job("a", "ask")
    queue = lined_up(long, short)

    assert taken(queue, 4) == [long, short, long, short]


def test_two_clients_share_batch_by_batch_whatever_one_of_them_piles_up():
    piled, other = [a_job("a", "ground") for _ in range(2)], a_job("b", "ground")
    queue = lined_up(*piled, other)

    order = taken(queue, 8)

    assert sum(job is other for job in order) == 4


def test_only_so_many_long_jobs_of_a_client_are_open_but_short_ones_pass():
    limits = QueueLimits(open_per_client=1)
    first, second, short = a_job("a", "ground"), a_job("a", "ground"), a_job("a", "ask")
    queue = lined_up(first, second, short, limits=limits)

    assert taken(queue, 4) == [first, short, first, short]
    queue.withdraw(first)
    queue.leave(first)
    assert second in taken(queue, 2)


def test_a_job_that_a_worker_has_begun_waits_for_that_worker():
    mine, other = object(), object()
    bound, free = a_job("a"), a_job("b")
    bound.worker = mine
    queue = lined_up(bound, free)

    assert queue.take(other) is free
    assert queue.take(mine) is bound


def test_what_waited_for_a_lost_worker_waits_for_the_next():
    lost, fresh = object(), object()
    job = a_job()
    job.worker = lost
    queue = lined_up(job)

    queue.hand_over(lost, fresh)

    assert queue.take(fresh) is job


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        pytest.param(["a", "b", "c", "d"], "4 jobs are waiting", id="all together"),
        pytest.param(["a", "a", "a"], "3 jobs of yours", id="one client"),
    ],
)
def test_a_full_queue_says_when_to_come_again(clients, said):
    queue = lined_up(*map(a_job, clients), limits=QueueLimits(jobs=4, jobs_per_client=3))

    with pytest.raises(QueueFullError, match=said) as caught:
        queue.add(a_job("a"), retry_after_s=7)

    assert caught.value.retry_after_s == 7


def test_a_job_at_work_counts_until_it_leaves():
    queue = lined_up(a_job(), limits=QueueLimits(jobs=1))
    job = queue.take(WORKER)
    with pytest.raises(QueueFullError):
        queue.add(a_job())

    queue.leave(job)

    queue.add(a_job())
    assert queue.unfinished() == 1


def test_ahead_counts_the_jobs_that_nobody_has_begun():
    jobs = [a_job(client) for client in "aba"]
    queue = lined_up(*jobs)

    assert [queue.ahead(job) for job in jobs] == [0, 1, 2]


def test_closing_sends_workers_home_and_refuses_who_comes_too_late():
    queue, got = FairQueue(QueueLimits()), []
    worker = threading.Thread(target=lambda: got.append(queue.take(WORKER)))
    worker.start()

    queue.close(StoppingError("too late"))
    worker.join(10)

    assert got == [None]
    with pytest.raises(StoppingError, match="too late"):
        queue.add(a_job())
    assert queue.unfinished() == 0


def test_what_waits_for_a_worker_that_is_gone_is_withdrawn():
    gone, other = object(), object()
    bound, free = a_job("a"), a_job("b")
    bound.worker = gone
    queue = lined_up(bound, free)

    assert queue.withdraw_all(gone) == [bound]
    assert [queue.take(other), queue.withdraw(bound)] == [free, False]


def test_a_long_job_that_was_cancelled_just_now_does_not_stay_open():
    limits = QueueLimits(open_per_client=1)
    cancelled, next_one = a_job("a", "ground"), a_job("a", "ground")
    queue = lined_up(cancelled, next_one, limits=limits)
    cancelled.end("cancelled", "cancelled", {}, None)
    queue.leave(cancelled)

    assert [queue.take(WORKER), queue.take(WORKER)] == [cancelled, next_one]


def test_a_withdrawn_job_is_withdrawn_once():
    job = a_job()
    queue = lined_up(job)

    assert queue.withdraw(job)
    assert not queue.withdraw(job)
