"""/bird/v1/jobs over real HTTP: submit, follow, fetch, cancel, and every refusal as JSON."""

from __future__ import annotations

import json

import pytest

from bird_server.client import (
    BusyError,
    Client,
    JobEvent,
    RefusedError,
    UnreachableError,
    events_of,
)
from bird_server.jobs.queue import QueueLimits
from bird_server.service import current
from jobs_world import SLICES
from scripted import ABSENT, PRESENT, assert_refused, wait_until


@pytest.fixture
def a_client(a_server):
    client = Client(a_server.url, name="a test", patience_s=30)
    yield client
    client.close()


def where(volume_id: str, *labels: str, **more) -> dict:
    return {"kind": "ground", "volume_id": volume_id, "labels": list(labels or [PRESENT])} | more


def in_review(told: dict) -> list[str]:
    """The ids of its findings, whether other tests asked the same before or not."""
    return [uid for name in ("added", "updated", "kept") for uid in told["review"][name]]


def followed(client: Client, question: dict) -> list[JobEvent]:
    return list(client.events(client.submit(question).job_id))


def test_a_grounding_tells_each_batch_and_what_is_found_so_far(a_client, a_volume_id):
    *progress, last = followed(a_client, where(a_volume_id, PRESENT, ABSENT, slices=[2, 6]))

    assert [(e.name, e.data["done"], e.data["total"]) for e in progress] == [
        ("progress", done, 4) for done in (1, 2, 3, 4)
    ]
    assert [e.event_id for e in progress] == ["1-1", "1-2", "1-3", "1-4"]
    assert progress[2].data["boxes"][0]["slice"] == 4
    assert progress[2].data["findings"] == [
        {"label": PRESENT, "slices": [2, 4], "boxes": 3, "score": 0.9}
    ]
    assert last.name == "result"
    assert last.data["result"]["absent"] == [ABSENT]
    assert len(in_review(last.data)) == 1
    assert last.data["warnings"] == []


@pytest.mark.parametrize(
    ("question", "field", "value"),
    [
        pytest.param({"kind": "refer", "box_ras": [2, 2, 3, 8, 8, 9]}, "task", "roc", id="refer"),
        pytest.param(
            {"kind": "caption", "box_ras": [2, 2, 3, 8, 8, 9]}, "task", "rc", id="caption"
        ),
        pytest.param({"kind": "ask", "question": "What?", "slice": 3}, "slice", 3, id="ask"),
    ],
)
def test_one_answer_is_one_event(a_client, a_volume_id, question, field, value):
    (event,) = followed(a_client, question | {"volume_id": a_volume_id})

    assert event.name == "result"
    assert event.data["result"][field] == value


def test_a_batch_tells_each_question_and_lists_what_failed(a_client, a_volume_id):
    unknown = where(a_volume_id, "unicorn")
    question = {"kind": "batch", "questions": [where(a_volume_id, slices=[0, 2]), unknown]}

    *events, last = followed(a_client, question)

    parts = [(e.data["item"], e.data["part"]) for e in events if e.name == "progress"]
    assert parts == [(0, 1), (0, 2)]
    good, bad = last.data["result"]["items"]
    assert (good["item"], good["error"], len(in_review(good))) == (0, None, 1)
    assert (bad["result"], bad["error"]["error"]) == (None, "unknown_label")
    assert last.data["result"]["failed"] == 1


def test_a_stream_goes_on_after_the_last_event_that_was_read(a_session, a_client, a_volume_id):
    job = a_client.submit(where(a_volume_id))
    list(a_client.events(job.job_id))

    for ask in ({"headers": {"Last-Event-ID": "1-5"}}, {"params": {"after": "1-5"}}):
        answer = a_session.get(f"/bird/v1/jobs/{job.job_id}/events", **ask)
        assert answer.headers["content-type"].startswith("text/event-stream")
        rest = list(events_of(answer.text.splitlines()))
        assert [event.event_id for event in rest] == ["1-6", "1-7", "1-8", "1-9"]


def test_leaving_a_stream_does_not_touch_the_job(a_client, a_volume_id, a_model):
    a_model.hold()
    a_model.gate.release(1)
    job = a_client.submit(where(a_volume_id))
    events = a_client.events(job.job_id)
    next(events)
    events.close()

    a_model.gate.release(100)

    wait_until(lambda: a_client.job(job.job_id).state == "done", seconds=30)


def test_status_tells_how_far_a_job_is_and_who_waits_before_it(a_client, a_volume_id, a_model):
    a_model.hold()
    first = a_client.submit(where(a_volume_id))
    wait_until(lambda: a_model.asked, seconds=30)
    others = [a_client.submit(where(a_volume_id)) for _ in range(3)]
    a_model.gate.release(1)

    wait_until(lambda: a_client.job(first.job_id).done == 1, seconds=30)

    assert a_client.job(first.job_id).total == SLICES
    assert a_client.job(others[2].job_id).ahead >= 1
    assert {job.job_id for job in a_client.jobs("queued")} <= {job.job_id for job in others}
    assert len(a_client.jobs()) == 4


def test_cancelling_is_told_to_whoever_listens(a_client, a_volume_id, a_model):
    a_model.hold()
    a_model.gate.release(1)
    job = a_client.submit(where(a_volume_id))
    events = a_client.events(job.job_id)
    next(events)

    assert a_client.cancel(job.job_id).state == "cancelled"
    a_model.gate.release(1)

    assert [event.name for event in events][-1] == "cancelled"
    assert a_model.closed.wait(30)
    with pytest.raises(RefusedError) as caught:
        a_client.result(job.job_id)
    assert (caught.value.status, caught.value.code) == (409, "cancelled")


def test_a_job_that_is_over_is_forgotten_when_it_is_deleted(a_client, a_volume_id):
    job = a_client.submit(where(a_volume_id))
    list(a_client.events(job.job_id))

    assert a_client.cancel(job.job_id).state == "done"

    with pytest.raises(RefusedError) as caught:
        a_client.job(job.job_id)
    assert (caught.value.status, caught.value.code) == (404, "unknown_job")


def test_a_result_can_be_fetched_as_often_as_one_likes(a_client, a_volume_id):
    question = where(a_volume_id)

    job = a_client.submit(question)
    *_, last = a_client.events(job.job_id)

    assert a_client.result(job.job_id) == a_client.result(job.job_id)
    assert a_client.result(job.job_id)["result"] == last.data["result"]
    assert a_client.answer(question) == last.data["result"]


def test_a_result_that_is_not_there_yet_is_refused(a_client, a_volume_id, a_model):
    a_model.hold()
    job = a_client.submit(where(a_volume_id))

    with pytest.raises(RefusedError) as caught:
        a_client.result(job.job_id)

    assert (caught.value.status, caught.value.code) == (409, "not_finished")


def test_a_failed_job_is_answered_with_its_own_error(a_client, a_volume_id):
    job = a_client.submit(where(a_volume_id, "unicorn"))
    (event,) = a_client.events(job.job_id)

    with pytest.raises(RefusedError) as caught:
        a_client.result(job.job_id)

    assert (caught.value.status, caught.value.code) == (422, "unknown_label")
    assert PRESENT in event.data["hint"]
    assert a_client.job(job.job_id).error == {
        name: event.data[name] for name in ("error", "detail", "hint")
    }


@pytest.mark.parametrize(
    ("question", "status", "code"),
    [
        pytest.param({"kind": "poem"}, 422, "bad_request", id="unknown kind"),
        pytest.param({"labels": [PRESENT]}, 422, "bad_request", id="no kind"),
        pytest.param(where("0" * 64), 404, "unknown_volume", id="unknown volume"),
        pytest.param(where("0" * 64, plane="up"), 422, "bad_request", id="unknown plane"),
        pytest.param(where("0" * 64, lables=[]), 422, "bad_request", id="misspelt key"),
        pytest.param({"kind": "batch", "questions": []}, 422, "bad_request", id="empty batch"),
        pytest.param(
            {"kind": "batch", "questions": [where("0" * 64)] * 501},
            422,
            "bad_request",
            id="endless batch",
        ),
        pytest.param(
            {"kind": "batch", "questions": [{"kind": "batch", "questions": []}]},
            422,
            "bad_request",
            id="batch in a batch",
        ),
    ],
)
def test_a_bad_question_is_refused_at_once(a_session, question, status, code):
    assert_refused(a_session.post("/bird/v1/jobs", json=question), status, code)


@pytest.mark.parametrize("route", ["", "/events", "/result"])
@pytest.mark.parametrize("job_id", ["0" * 32, "x", "%00"])
def test_an_unknown_job_is_refused(a_session, route, job_id):
    answer = a_session.get(f"/bird/v1/jobs/{job_id}{route}")

    assert answer.status_code in (400, 404, 422)
    assert_refused(answer, answer.status_code, answer.json()["error"])


@pytest.mark.parametrize("name", ["", "x" * 65, "tab\there"])
def test_a_client_name_is_short_and_printable(a_session, a_volume_id, name):
    answer = a_session.post(
        "/bird/v1/jobs", json=where(a_volume_id), headers={"X-BiRD-Client": name}
    )

    assert_refused(answer, 422, "bad_request")


def test_a_full_queue_answers_429_and_when_to_come_again(a_client, a_session, a_volume_id, a_model):
    current().jobs.queue.limits = QueueLimits(jobs=2)
    a_model.hold()
    for _ in range(2):
        a_client.submit(where(a_volume_id))

    answer = a_session.post("/bird/v1/jobs", json=where(a_volume_id))

    assert_refused(answer, 429, "busy")
    assert int(answer.headers["Retry-After"]) >= 1
    with pytest.raises(BusyError) as caught:
        a_client.submit(where(a_volume_id))
    assert caught.value.retry_after_s == float(answer.headers["Retry-After"])
    assert_refused(a_session.post("/bird/v1/ground", json=where(a_volume_id)), 429, "busy")


def test_a_client_that_may_wait_is_let_in_when_there_is_room(a_client, a_volume_id, a_model):
    current().jobs.queue.limits = QueueLimits(jobs=1)
    a_model.hold()
    first = a_client.submit(where(a_volume_id))
    current().jobs._pace._mean_s = 0.1
    a_model.gate.release(1000)

    assert a_client.submit(where(a_volume_id), wait_s=20).job_id != first.job_id


def test_a_volume_in_use_is_not_removed(a_client, a_session, a_volume_id, a_model):
    a_model.hold()
    job = a_client.submit(where(a_volume_id))

    assert_refused(a_session.delete(f"/bird/v1/volumes/{a_volume_id}"), 409, "volume_in_use")

    a_client.cancel(job.job_id)
    a_model.gate.release(10)
    assert a_session.delete(f"/bird/v1/volumes/{a_volume_id}").status_code == 204
    assert_refused(a_session.get(f"/bird/v1/volumes/{a_volume_id}"), 404, "unknown_volume")


def test_stored_volumes_are_listed_with_what_is_known_of_them(a_session, a_volume_id):
    listed = a_session.get("/bird/v1/volumes").json()
    (mine,) = [one for one in listed["volumes"] if one["volume_id"] == a_volume_id]
    alone = a_session.get(f"/bird/v1/volumes/{a_volume_id}").json()

    assert mine["name"] == "scan.nii.gz"
    assert mine["volume_digest"] == current().volume(a_volume_id).digest
    assert listed["stored_bytes"] >= mine["bytes"] > 0
    assert alone["volume"]["shape_ijk"] == [12, 10, 8]


def test_the_streaming_routes_say_which_job_they_are(a_session, a_client, a_volume_id):
    answer = a_session.post("/bird/v1/ground", json=where(a_volume_id))

    assert a_client.job(answer.headers["X-BiRD-Job"]).state == "done"
    assert json.loads(answer.text.splitlines()[-1])["review"] is not None


def test_nobody_there_is_an_error_of_its_own():
    with pytest.raises(UnreachableError, match="cannot be reached"):
        Client("http://127.0.0.1:9").health()
