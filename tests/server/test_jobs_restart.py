"""What a server finds when it starts again: unfinished jobs go on, results are still there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bird_server.jobs.ended import Ended
from bird_server.jobs.errors import JournalError, UnknownJobError
from bird_server.jobs.jobs import MAX_ATTEMPTS
from bird_server.jobs.journal import Journal
from bird_server.service import Service, in_use, use
from jobs_world import Device, a_service, names, stored_volume, until_over, where
from scripted import wait_until


@pytest.fixture
def started(tmp_path):
    """Starts a service on the same studies folder, and closes all of them in the end."""
    services, before = [], in_use()

    def start(device: Device):
        services.append((a_service(tmp_path, device), device))
        use(services[-1][0])
        return services[-1][0]

    yield start
    use(before)
    for service, device in services:
        device.gate.release(1000)
        service.close()


def records(studies: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in (studies / ".bird" / "jobs").glob("*.json")]


def count_of_records(studies: Path) -> int:
    """Without reading them, which may go meanwhile."""
    return len(list((studies / ".bird" / "jobs").glob("*.json")))


def a_record(service: Service, studies: Path) -> dict:
    """Of a job that was done before the service was closed."""
    until_over(service.jobs.submit(where(stored_volume(service))))
    wait_until(lambda: records(studies)[0]["end"], seconds=30)
    service.close()
    return records(studies)[0]


def test_a_job_that_the_stop_interrupted_goes_on_under_its_id(started):
    device = Device()
    first = started(device)
    device.hold()
    job = first.jobs.submit(where(stored_volume(first)), "room 2")
    wait_until(lambda: device.asked, seconds=30)
    device.gate.release(1)
    first.close()

    second = started(Device())
    second.jobs.restore()
    again = second.jobs.get(job.job_id)
    until_over(again)

    assert (again.state, again.attempt, again.client) == ("done", 2, "room 2")
    assert again.created == job.created
    assert again.is_over


def test_a_job_that_nobody_had_begun_goes_on_as_the_first_attempt(started, tmp_path):
    first = started(Device())
    volume_id = stored_volume(first)
    first.jobs._note = lambda *_, **__: None
    job = first.jobs.submit(where(volume_id))
    until_over(job)
    record = job.json() | {"client": "", "failure": None, "end": None, "started": None}
    question = where(volume_id).model_dump(mode="json")
    Journal(tmp_path / ".bird" / "jobs").write(record | {"question": question})

    second = started(Device())
    second.jobs.restore()

    assert second.jobs.get(job.job_id).attempt == 1


def test_a_result_is_there_after_a_restart(started, tmp_path):
    first = started(Device())
    job = first.jobs.submit(where(stored_volume(first)))
    until_over(job)
    wait_until(lambda: records(tmp_path)[0]["end"], seconds=30)
    first.close()

    second = started(Device())
    second.jobs.restore()
    again = second.jobs.get(job.job_id)

    assert again.state == "done"
    assert again.log.last.data == job.log.last.data
    assert (again.created, again.started, again.finished) == (
        job.created,
        job.started,
        job.finished,
    )


def test_a_failure_is_told_after_a_restart(started):
    first = started(Device())
    job = first.jobs.submit(where(stored_volume(first), "unicorn"))
    until_over(job)
    first.close()

    second = started(Device())
    second.jobs.restore()
    again = second.jobs.get(job.job_id)

    assert (again.state, again.failure["error"]) == ("failed", "unknown_label")
    assert names(again) == ["error"]


def test_a_job_during_which_the_server_died_too_often_is_not_tried_again(started, tmp_path):
    first = started(Device())
    job = first.jobs.submit(where(stored_volume(first)))
    until_over(job)
    first.close()
    (record,) = records(tmp_path)
    Journal(tmp_path / ".bird" / "jobs").write(
        record | {"end": None, "state": "running", "attempt": MAX_ATTEMPTS}
    )

    second = started(Device())
    second.jobs.restore()
    again = second.jobs.get(job.job_id)

    assert again.failure["error"] == "interrupted"
    assert f"{MAX_ATTEMPTS} times" in again.failure["detail"]


def test_a_job_whose_volume_is_gone_says_so(started, tmp_path):
    first = started(Device())
    job = first.jobs.submit(where(stored_volume(first)))
    until_over(job)
    first.close()
    (record,) = records(tmp_path)
    Journal(tmp_path / ".bird" / "jobs").write(record | {"end": None, "state": "queued"})
    for path in (tmp_path / ".bird" / "volumes").glob("*.nii"):
        path.unlink()

    second = started(Device())
    second.jobs.restore()

    assert second.jobs.get(job.job_id).failure["error"] == "unknown_volume"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{half", id="half a file"),
        pytest.param(b'{"format": 99, "job_id": "x", "created": ""}', id="of a newer version"),
        pytest.param(b"[]", id="another shape"),
    ],
)
def test_a_damaged_file_is_put_aside_and_stops_nobody(started, tmp_path, content, caplog):
    journal = Journal(tmp_path / ".bird" / "jobs")
    (journal.folder / f"{'0' * 32}.json").write_bytes(content)

    started(Device()).jobs.restore()

    assert (journal.folder / f"{'0' * 32}.damaged").read_bytes() == content
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"end": {"event": "result", "fields": None}}, id="an end without fields"),
        pytest.param({"end": {}, "attempt": "two", "started": "now"}, id="a word for a number"),
        pytest.param({"question": {"kind": "sing"}}, id="a question of another version"),
    ],
)
def test_a_record_that_is_not_understood_is_given_up(started, tmp_path, damage, caplog):
    record = a_record(started(Device()), tmp_path)
    Journal(tmp_path / ".bird" / "jobs").write(record | damage)

    second = started(Device())
    second.jobs.restore()

    assert second.jobs.all() == []
    assert records(tmp_path) == []
    assert "given up" in caplog.text


def test_a_stop_while_jobs_are_taken_up_loses_none(started, tmp_path):
    record = a_record(started(Device()), tmp_path)
    unfinished = record | {"end": None, "state": "queued", "finished": None, "started": None}
    Journal(tmp_path / ".bird" / "jobs").write(unfinished)

    second = started(Device())
    second.jobs.stop()
    second.jobs.restore()

    assert [record["end"] for record in records(tmp_path)] == [None]


def test_a_job_that_cannot_be_noted_down_is_refused(started, tmp_path):
    service = started(Device())
    volume_id = stored_volume(service)
    folder = tmp_path / ".bird" / "jobs"
    folder.rmdir()
    folder.write_text("in the way")

    with pytest.raises(JournalError, match="noted down"):
        service.jobs.submit(where(volume_id))

    assert not service.stored(volume_id).in_use
    assert service.jobs.queue.unfinished() == 0
    folder.unlink()
    folder.mkdir()


def test_ended_jobs_go_by_age_count_and_bytes(started, tmp_path):
    clock = [0.0]
    service = started(Device())
    service.jobs.ended = Ended(seconds=100, jobs=3, size_bytes=1 << 30, now=lambda: clock[0])
    volume_id = stored_volume(service)

    def one_more():
        job = service.jobs.submit(where(volume_id))
        until_over(job)
        wait_until(lambda: count_of_records(tmp_path) == len(service.jobs.all()), seconds=30)
        return job

    jobs = [one_more() for _ in range(5)]
    wait_until(lambda: len(service.jobs.all()) == 3, seconds=30)
    assert [job.job_id for job in service.jobs.all()] == [job.job_id for job in jobs[2:]]

    service.jobs.ended._limit_bytes = jobs[-1].log.bytes
    assert [job.job_id for job in service.jobs.all()] == [jobs[-1].job_id]
    clock[0] = 101
    with pytest.raises(UnknownJobError):
        service.jobs.get(jobs[-1].job_id)
    assert records(tmp_path) == []
