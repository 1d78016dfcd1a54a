"""What holds for all of /bird/v1: it says what it can, answers fast, and refuses as JSON."""

from __future__ import annotations

import threading
import time

import pytest

from bird_vlm.contract import MAX_LABELS, PLANES
from scripted import ABSENT, PRESENT, UPLOAD_LIMIT_BYTES, assert_refused, wait_until


def test_health_says_what_the_server_can_do(a_session):
    health = a_session.get("/bird/v1/health").json()

    assert health["status"] == "ok"
    assert health["api"] == 1
    assert health["model"] == {
        "id": "scripted",
        "labels": {"ct": [PRESENT, ABSENT]},
        "device": "cpu",
        "version": "0123456789abcdef",
        "note": "",
    }
    assert health["planes"] == list(PLANES)
    assert health["tasks"] == ["ground", "refer", "caption", "ask", "batch"]
    assert ".zip" in health["formats"]
    assert health["limits"]["upload_bytes"] == UPLOAD_LIMIT_BYTES
    assert health["limits"]["labels"] == MAX_LABELS
    assert health["jobs"] == {"queued": 0, "running": 0}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{not json", id="malformed"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b"", id="empty"),
        pytest.param(b'"text"', id="not an object"),
        pytest.param(b'{"volume_id": "a", "labels": ["x"], "threshold": NaN}', id="NaN"),
    ],
)
@pytest.mark.parametrize("route", ["ground", "refer", "ask"])
def test_malformed_json_is_refused(a_session, route, body):
    answer = a_session.post(
        f"/bird/v1/{route}", data=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code in (400, 422), answer.text
    code = "bad_text" if b"NaN" in body else "bad_request"
    assert_refused(answer, answer.status_code, code)


def test_a_json_body_may_not_be_huge(a_session):
    answer = a_session.post("/bird/v1/ground", json={"volume_id": "x" * (2 << 20), "labels": []})

    assert_refused(answer, 413, "too_large")


def test_an_unknown_route_is_json(a_session):
    assert_refused(a_session.get("/bird/v1/nothing"), 404, "not_found")
    assert_refused(a_session.get("/bird/v1/ground"), 405, "method_not_allowed")


def test_health_and_info_answer_fast_while_many_inferences_wait(a_session, a_volume_id, a_model):
    a_model.hold()
    body = {"volume_id": a_volume_id, "labels": [PRESENT]}
    waiting = [
        threading.Thread(target=a_session.post, args=("/bird/v1/ground",), kwargs={"json": body})
        for _ in range(60)  # more than the server has worker threads
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: a_model.asked, seconds=30)

    for route in ("/bird/v1/health", "/info/"):
        a_session.get(route)
        start = time.perf_counter()
        assert a_session.get(route).status_code == 200
        assert time.perf_counter() - start < 3.0, route
    for _ in range(60 * 9):
        a_model.gate.release()
    for thread in waiting:
        thread.join(60)
        assert not thread.is_alive()
