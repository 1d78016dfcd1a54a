"""Where is it? Over real HTTP: lines as they come, the result at last, refusals as JSON."""

from __future__ import annotations

import json
import threading

import pytest

from bird_server import service
from scripted import ABSENT, PRESENT, assert_refused, wait_until


def ground(session, a_volume_id, **fields):
    body = {"volume_id": a_volume_id, "labels": [PRESENT]} | fields
    return session.post("/bird/v1/ground", json=body)


def lines(answer) -> list[dict]:
    return [json.loads(line) for line in answer.text.splitlines()]


def test_grounding_streams_progress_per_batch_and_ends_with_the_result(a_session, a_volume_id):
    answer = ground(a_session, a_volume_id, labels=[PRESENT, ABSENT], slices=[2, 6])

    assert answer.headers["content-type"] == "application/x-ndjson"
    *progress, last = lines(answer)
    assert [(event["event"], event["done"], event["total"]) for event in progress] == [
        ("progress", done, 4) for done in (1, 2, 3, 4)
    ]
    box = progress[0]["boxes"][0]
    assert set(box) == {"label", "slice", "score", "box_pixel", "corners_ras", "asked"}
    assert (box["label"], box["slice"], len(box["corners_ras"])) == (PRESENT, 2, 4)
    assert last["event"] == "result"
    assert last["result"]["absent"] == [ABSENT]
    assert last["result"]["findings"][0]["slices"] == [2, 5]
    assert last["result"]["volume"]["shape_ijk"] == [12, 10, 8]


def test_every_field_of_the_question_reaches_the_model(a_session, a_volume_id, a_model):
    ground(
        a_session,
        a_volume_id,
        labels=["  liver "],
        plane="coronal",
        slices=[1, 3],
        window=[40, 400],
        threshold=0.25,
        near=2,
    )

    (asked,) = a_model.asked
    assert (asked.labels, asked.plane, asked.slices) == (("liver",), "coronal", (1, 3))
    assert (asked.window, asked.threshold, asked.near) == ((40.0, 400.0), 0.25, 2)


def test_lines_arrive_while_the_model_is_still_at_work(a_session, a_volume_id, a_model):
    a_model.hold()
    a_model.gate.release()
    with a_session.post(
        "/bird/v1/ground", json={"volume_id": a_volume_id, "labels": [PRESENT]}, stream=True
    ) as answer:
        first = next(answer.iter_lines())

    assert json.loads(first)["done"] == 1
    assert not a_model.gate.acquire(blocking=False)


def test_closing_the_connection_cancels_before_the_next_batch(a_session, a_volume_id, a_model):
    a_model.hold()
    a_model.gate.release()
    answer = a_session.post(
        "/bird/v1/ground", json={"volume_id": a_volume_id, "labels": [PRESENT]}, stream=True
    )
    next(answer.iter_lines())
    answer.close()
    jobs = service.current().jobs
    wait_until(lambda: [job.state for job in jobs.all()] == ["cancelled"], seconds=30)

    a_model.gate.release()  # the batch at work ends

    assert a_model.closed.wait(30)
    a_model.gate.release()
    assert a_model.gate.acquire(blocking=False), "the model went on to a third batch"


def test_two_clients_get_their_batches_in_turn(a_session, a_volume_id, a_model):
    a_model.hold()
    answers = {}

    def ask(plane):
        answers[plane] = lines(ground(a_session, a_volume_id, plane=plane))

    threads = [threading.Thread(target=ask, args=(plane,)) for plane in ("axial", "coronal")]
    for thread in threads:
        thread.start()
    for _ in range(8 + 10):
        a_model.gate.release()
    for thread in threads:
        thread.join(60)

    assert {plane: answer[-1]["event"] for plane, answer in answers.items()} == {
        "axial": "result",
        "coronal": "result",
    }


def test_a_failure_after_the_first_batch_is_the_last_line(a_session, a_volume_id, a_model, caplog):
    a_model.fails_at = 3

    *progress, last = lines(ground(a_session, a_volume_id))

    assert len(progress) == 3
    assert last["event"] == "error"
    assert set(last) == {"event", "error", "detail", "hint"}
    assert "secret" not in json.dumps(last)
    assert "secret" in caplog.text
    caplog.clear()


def test_a_failure_before_the_first_batch_is_json(a_session, a_volume_id, a_model, caplog):
    a_model.fails_at = 0

    answer = ground(a_session, a_volume_id)

    assert_refused(answer, 500, "server_error")
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        pytest.param({"labels": ["unicorn"]}, 422, "unknown_label", id="unknown label"),
        pytest.param({"volume_id": "0" * 64}, 404, "unknown_volume", id="unknown volume"),
        pytest.param({"volume_id": "../../etc"}, 404, "unknown_volume", id="path as volume id"),
        pytest.param({"labels": []}, 422, "bad_request", id="no label"),
        pytest.param({"labels": [f"l{i}" for i in range(65)]}, 422, "bad_request", id="65 labels"),
        pytest.param({"labels": ["x" * 101]}, 422, "bad_request", id="long label"),
        pytest.param({"labels": ["<box>(1,1)"]}, 422, "bad_text", id="control tokens"),
        pytest.param({"labels": "liver"}, 422, "bad_request", id="labels not a list"),
        pytest.param({"labels": [1]}, 422, "bad_request", id="label not text"),
        pytest.param({"plane": "oblique"}, 422, "bad_request", id="unknown plane"),
        pytest.param({"slices": [5, 5]}, 422, "bad_request", id="empty range"),
        pytest.param({"slices": [0, 99]}, 422, "bad_request", id="range past the volume"),
        pytest.param({"slices": [1]}, 422, "bad_request", id="half a range"),
        pytest.param({"window": [40, 0]}, 422, "bad_request", id="no width"),
        pytest.param({"threshold": 1.5}, 422, "bad_request", id="threshold above 1"),
        pytest.param({"near": "middle"}, 422, "bad_request", id="near not a number"),
        pytest.param({"lables": ["liver"]}, 422, "bad_request", id="misspelt key"),
    ],
)
def test_a_bad_question_is_a_plain_http_error(a_session, a_volume_id, fields, status, code):
    assert_refused(ground(a_session, a_volume_id, **fields), status, code)


def test_an_unknown_label_is_answered_with_the_known_ones(a_session, a_volume_id):
    problem = assert_refused(
        ground(a_session, a_volume_id, labels=["unicorn"]), 422, "unknown_label"
    )

    assert PRESENT in problem["hint"]
    assert ABSENT in problem["hint"]
