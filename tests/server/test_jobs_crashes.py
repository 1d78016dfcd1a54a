"""Jobs whose model, worker, answer or store fails: told clearly, and the next one is answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bird_server.jobs.errors import NoWorkerError
from bird_server.jobs.questions import AskQuestion
from bird_vlm.errors import CheckpointError
from jobs_world import Device, names, services_in, stored_volume, until_over, where
from scripted import wait_until


@pytest.fixture
def serving(tmp_path):
    with services_in(tmp_path) as make:
        yield make


def test_a_fault_ends_its_job_and_the_next_one_is_answered(serving, caplog):
    device = Device()
    service = serving(device)
    volume_id = stored_volume(service)
    device.fails_at = 3
    failed = service.jobs.submit(where(volume_id))
    until_over(failed)
    device.fails_at = None
    next_one = service.jobs.submit(where(volume_id))
    until_over(next_one)

    assert (failed.state, failed.failure["error"]) == ("failed", "server_error")
    assert "secret" not in str(failed.failure)
    assert failed.job_id in failed.failure["detail"]
    assert next_one.state == "done"


@pytest.mark.parametrize(
    "crash", [pytest.param(SystemExit, id="exit"), pytest.param(KeyboardInterrupt, id="interrupt")]
)
def test_a_worker_that_crashes_fails_its_job_clearly_and_is_replaced(serving, crash):
    device = Device()
    service = serving(device)
    volume_id = stored_volume(service)
    device.crashes_with = crash("the device is gone")
    lost = service.jobs.submit(where(volume_id))
    until_over(lost)
    device.crashes_with = None
    next_one = service.jobs.submit(where(volume_id))
    until_over(next_one)

    assert lost.failure["error"] == "worker_crashed"
    assert "cpu" in lost.failure["detail"]
    assert next_one.state == "done"
    wait_until(lambda: service.workers() == [{"device": "cpu", "state": "idle"}], seconds=30)


def test_a_device_that_fails_job_after_job_is_started_anew(serving):
    device, loads = Device(), []
    service = serving(device)
    service._crew._load = lambda *_: loads.append(1) or device
    volume_id = stored_volume(service)
    device.fails_at = 0
    jobs = [service.jobs.submit(where(volume_id)) for _ in range(3)]
    until_over(*jobs)

    wait_until(lambda: len(loads) == 2, seconds=30)  # at first, and after the third fault


def test_without_a_worker_left_every_job_is_told(serving):
    device = Device()
    service = serving(device)
    volume_id = stored_volume(service)
    device.hold()
    lost = service.jobs.submit(where(volume_id))
    wait_until(lambda: device.asked, seconds=30)
    waiting = service.jobs.submit(where(volume_id), "another client")
    device.crashes_with = SystemExit("gone")

    def cannot_load(*_):
        raise CheckpointError("model: the weights are gone")

    service._crew._load = cannot_load
    device.gate.release(100)
    until_over(lost, waiting)

    assert waiting.failure["status"] == 503
    assert "every worker" in waiting.failure["detail"]
    assert service.workers()[0]["state"] == "out"
    assert not service.is_loaded
    with pytest.raises(NoWorkerError):
        service.jobs.submit(where(volume_id))
    assert not service.stored(volume_id).in_use


def test_what_waited_for_a_worker_that_is_not_replaced_is_told(serving):
    broken, sound = Device("broken"), Device("sound")
    service = serving(broken, sound)
    broken.hold(), sound.hold()
    volume_id = stored_volume(service)
    both = [service.jobs.submit(where(volume_id), client) for client in "ab"]
    wait_until(lambda: broken.asked and sound.asked, seconds=30)
    third = service.jobs.submit(where(volume_id), "c")
    broken.gate.release()
    wait_until(lambda: third._inbox is not None, seconds=30)  # its volume is read
    broken.gate.release()
    wait_until(lambda: len(broken.asked) == 2, seconds=30)
    broken.crashes_with = SystemExit("gone")

    def cannot_load(*_):
        raise CheckpointError("model: the weights are gone")

    service._crew._load = cannot_load
    broken.gate.release(1000), sound.gate.release(1000)
    until_over(*both, third)

    assert sorted(job.state for job in both) == ["done", "failed"]
    errors = [job.failure["error"] for job in (*both, third) if job.failure]
    assert errors == ["worker_crashed"] * 2
    assert service.is_loaded


def test_an_answer_that_json_cannot_hold_fails_its_job_only(serving, caplog):
    device = Device()
    service = serving(device)
    volume_id = stored_volume(service)
    answer = device.ask
    device.ask = lambda *asked: replace(answer(*asked), score=float("nan"))
    job = service.jobs.submit(AskQuestion(volume_id=volume_id, question="What?", slice=1))
    until_over(job)

    assert (job.failure["error"], names(job)) == ("server_error", ["error"])
    assert "crashed" not in caplog.text
    wait_until(lambda: service.workers() == [{"device": "cpu", "state": "idle"}], seconds=30)


def test_a_store_that_cannot_keep_an_answer_does_not_lose_it(serving, tmp_path):
    service = serving(Device())
    volume_id = stored_volume(service)
    service.review.store.close()
    for path in (tmp_path / ".bird").glob("review.sqlite3*"):
        path.unlink()

    job = service.jobs.submit(where(volume_id))
    until_over(job)

    assert job.state == "done"
    assert "not kept for review" in job.log.last.data
