"""Workers at work: devices side by side, turns, another model, and what is refused at once."""

from __future__ import annotations

import pytest

from bird_server.jobs.errors import QueueFullError
from bird_server.jobs.questions import AskQuestion
from bird_vlm.contract import GroundingRequest, GroundingResult
from bird_vlm.errors import BadRequestError, CheckpointError
from jobs_world import (
    SLICES,
    SMALL,
    Device,
    batch,
    names,
    over_within,
    services_in,
    stored_volume,
    until_over,
    where,
)
from scripted import ABSENT, PRESENT, wait_until


@pytest.fixture
def serving(tmp_path):
    with services_in(tmp_path) as make:
        yield make


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

    for _batch in range(SLICES - 1):
        device.gate.release()
        if over_within(short, seconds=1):
            break

    assert short.is_over
    assert not long.is_over
    device.gate.release(100)
    until_over(long)


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
