"""Jobs that somebody ends: cancelled, forgotten, left by a listener, stopped with the server."""

from __future__ import annotations

import json
import threading

import pytest

from bird_server.jobs.errors import StoppingError
from bird_server.jobs.job import Job
from bird_vlm.contract import GroundingRequest
from jobs_world import Device, names, services_in, stored_volume, where
from scripted import ABSENT, PRESENT, wait_until


@pytest.fixture
def serving(tmp_path):
    with services_in(tmp_path) as make:
        yield make


def test_cancelling_takes_effect_within_one_batch(serving):
    device = Device()
    service = serving(device)
    device.hold()
    job = service.jobs.submit(where(stored_volume(service)))
    wait_until(lambda: device.asked, seconds=30)

    service.jobs.cancel(job)
    device.gate.release(1)

    assert device.closed.wait(30)
    assert (job.state, names(job)[-1]) == ("cancelled", "cancelled")
    assert len(device.journey) <= 1


def test_a_job_that_waits_is_cancelled_before_anybody_looks_at_it(serving):
    device = Device()
    service = serving(device)
    volume_id = stored_volume(service)
    device.hold()
    service.jobs.submit(where(volume_id))
    wait_until(lambda: device.asked, seconds=30)
    waiting = service.jobs.submit(where(volume_id, ABSENT))

    service.jobs.cancel(waiting)
    device.gate.release(100)
    wait_until(lambda: service.jobs.queue.unfinished() == 0, seconds=30)

    assert [request.labels for request in device.asked] == [(PRESENT,)]


def test_a_job_that_is_cancelled_as_it_begins_is_noted_down_as_cancelled(serving, tmp_path):
    service = serving(Device())
    question = where(stored_volume(service))

    def steps():
        service.jobs.cancel(job)
        return iter(())

    job = Job("ground", steps, question=question)
    job.durable = True
    service.jobs.take_on(job)
    wait_until(lambda: job._make_steps is None, seconds=30)

    (path,) = (tmp_path / ".bird" / "jobs").iterdir()
    assert json.loads(path.read_text())["end"]["fields"] == {"detail": "the job was cancelled"}


def test_a_job_that_is_forgotten_as_it_ends_leaves_nothing(serving, tmp_path):
    service = serving(Device())
    volume_id = stored_volume(service)
    service.jobs._pace.took = service.jobs.forget
    job = service.jobs.submit(where(volume_id))
    wait_until(lambda: job.has_begun is False and job.is_over, seconds=30)

    assert list((tmp_path / ".bird" / "jobs").iterdir()) == []
    assert list(service.jobs.ended._jobs) == []


def test_a_listener_of_this_process_who_leaves_cancels(serving):
    device = Device()
    service = serving(device)
    volume = service.volume(stored_volume(service))
    device.hold()
    device.gate.release(1)
    events = service.ground(volume, GroundingRequest((PRESENT,)))
    next(events)

    events.close()
    device.gate.release(1)

    assert device.closed.wait(30)
    assert [job.state for job in service.jobs.all()] == ["cancelled"]


def test_a_stop_ends_the_batch_at_work_and_tells_everybody(serving):
    device = Device()
    service = serving(device)
    device.hold()
    volume_id = stored_volume(service)
    durable = service.jobs.submit(where(volume_id))
    streamed = service.jobs.submit(where(volume_id), durable=False)
    wait_until(lambda: device.asked, seconds=30)
    stopping = threading.Thread(target=service.jobs.stop)
    stopping.start()
    device.gate.release(100)
    stopping.join(30)

    assert names(durable)[-1] == "stopped"
    assert not durable.is_over
    assert streamed.failure["error"] == "interrupted"
    assert len(device.journey) <= 2
    with pytest.raises(StoppingError):
        service.jobs.submit(where(volume_id))
