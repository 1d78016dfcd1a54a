"""Workers at work: devices side by side, turns, cancelling, crashes, another model, the end."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from bird_server.jobs.errors import NoWorkerError, QueueFullError, StoppingError
from bird_server.jobs.job import Job
from bird_server.jobs.questions import AskQuestion
from bird_server.service import in_use, use
from bird_vlm.contract import GroundingRequest, GroundingResult
from bird_vlm.errors import BadRequestError, CheckpointError
from jobs_world import (
    SLICES,
    SMALL,
    Device,
    a_service,
    batch,
    names,
    stored_volume,
    until_over,
    where,
)
from scripted import ABSENT, PRESENT, wait_until


@pytest.fixture
def serving(tmp_path):
    """Makes services that are closed in the end, whatever their devices wait for."""
    made, all_devices, before = [], [], in_use()

    def make(*devices: Device, **more):
        made.append(a_service(tmp_path, *devices, **more))
        all_devices.extend(devices)
        use(made[-1])
        return made[-1]

    yield make
    use(before)
    for device in all_devices:
        device.gate.release(1000)
    for service in made:
        service.close()


def test_a_job_is_answered_batch_by_batch_and_kept_for_review(serving):
    service = serving(Device())
    job = service.jobs.submit(where(stored_volume(service)))

    until_over(job)

    assert names(job) == ["progress"] * SLICES + ["result"]
    assert (job.state, job.done, job.total) == ("done", SLICES, SLICES)
    (finding,) = service.review.store.report(service.digest_of(*job.volume_ids())).findings
    assert finding.model.version == service.version
    assert finding.case.name == "scan.nii"


def test_two_devices_work_at_the_same_time(serving):
    left, right = Device("left"), Device("right")
    service = serving(left, right)
    left.hold(), right.hold()
    jobs = [service.jobs.submit(where(stored_volume(service, seed))) for seed in (1, 2)]

    wait_until(lambda: left.asked and right.asked, seconds=30)
    left.gate.release(100), right.gate.release(100)
    until_over(*jobs)

    assert {left.thread, right.thread} == {"worker left", "worker right"}
    assert len(left.journey) == len(right.journey) == SLICES + 1


def test_a_job_ends_on_the_device_where_it_began(serving):
    devices = [Device(name) for name in ("one", "two", "three")]
    service = serving(*devices)
    jobs = [service.jobs.submit(where(stored_volume(service)), str(n)) for n in range(12)]

    until_over(*jobs)

    ends = [sum(step == "result" for _, step in device.journey) for device in devices]
    steps = [len(device.journey) for device in devices]
    assert sum(ends) == 12
    assert steps == [count * (SLICES + 1) for count in ends]


def test_a_long_grounding_gives_way_to_a_question_between_its_batches(serving):
    device = Device()
    service = serving(device)
    volume_id = stored_volume(service)
    device.hold()
    long = service.jobs.submit(where(volume_id))
    wait_until(lambda: device.asked, seconds=30)
    short = service.jobs.submit(AskQuestion(volume_id=volume_id, question="What?", slice=1))

    device.gate.release(3)
    until_over(short)

    assert not long.is_over
    device.gate.release(100)
    until_over(long)


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


def test_another_model_takes_over_between_two_batches(serving):
    old, new = Device(), Device()
    new.card, new.version = type(new.card)(id="better"), "fedcba9876543210"
    service = serving(old)
    old.hold()
    volume_id = stored_volume(service)
    under_way = service.jobs.submit(where(volume_id))
    wait_until(lambda: old.asked, seconds=30)
    service._crew._load = lambda *_: new

    service.swap("better")
    after = service.jobs.submit(where(volume_id))
    old.gate.release(100)
    until_over(under_way, after)

    assert (service.card.id, service.version) == ("better", "fedcba9876543210")
    models = [job.log.last.data.count('"model": "better"') for job in (under_way, after)]
    assert models == [0, 1]


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(serving):
    device = Device()
    service = serving(device)
    volume_id = stored_volume(service)
    before = service.version

    def cannot_load(*_):
        raise CheckpointError("model: no such folder")

    service._crew._load = cannot_load
    with pytest.raises(CheckpointError):
        service.swap("nowhere")

    assert service.version == before
    job = service.jobs.submit(where(volume_id))
    until_over(job)
    assert job.state == "done"


def test_a_batch_goes_on_after_a_question_that_fails(serving):
    service = serving(Device())
    known = stored_volume(service)
    questions = [where(known), where(known, "unicorn"), where(known, ABSENT)]
    job = service.jobs.submit(batch(*questions))

    until_over(job)

    result = [event for event in job.log.after(0) if event.name == "item"]
    assert len(result) == 3
    assert '"failed": 1' in job.log.last.data
    assert "unknown_label" in result[1].data
    assert job.state == "done"


def test_volumes_stay_while_jobs_need_them(serving):
    device = Device()
    service = serving(device)
    device.hold()
    volume_id = stored_volume(service)
    job = service.jobs.submit(where(volume_id))

    assert service.stored(volume_id).in_use
    device.gate.release(100)
    until_over(job)
    wait_until(lambda: not service.stored(volume_id).in_use, seconds=30)


def test_a_full_queue_refuses_and_holds_nothing(serving):
    device = Device()
    service = serving(device, limits=SMALL)
    device.hold()
    volume_id = stored_volume(service)
    jobs = [service.jobs.submit(where(volume_id), client) for client in "abca"]

    with pytest.raises(QueueFullError) as caught:
        service.jobs.submit(where(volume_id), "d")

    assert 1 <= caught.value.retry_after_s <= 120
    assert service.store._held[volume_id] == 4
    assert len(service.jobs.all()) == 4
    device.gate.release(1000)
    until_over(*jobs)


def test_what_is_wrong_with_any_model_is_refused_at_once(serving):
    service = serving(Device())

    with pytest.raises(BadRequestError, match="plane"):
        service.jobs.submit(where(stored_volume(service), plane="up"))
    assert service.jobs.all() == []


def test_questions_of_this_process_go_through_the_queue_too(serving):
    device = Device()
    service = serving(device)
    volume = service.volume(stored_volume(service))

    *progress, result = service.ground(volume, GroundingRequest((PRESENT,)))

    assert len(progress) == SLICES
    assert isinstance(result, GroundingResult)
    assert device.thread == "worker cpu"
    assert service.ask(volume, "What?", "axial", 3, None).slice == 3


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
