"""Live, ready, metrics and the log of the running server."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import sys
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bird_server import service
from bird_server.operations import logs, readiness
from bird_server.operations.logs import JsonFormatter
from bird_server.operations.watching import Watching
from bird_server.routes import operation
from scripted import PRESENT, assert_refused


def numbers(session) -> dict[tuple, float]:
    """(name, labels) -> value, as Prometheus reads them."""
    answer = session.get("/bird/v1/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(values: dict[tuple, float], name: str, **labels: str) -> float:
    return values.get((name, tuple(sorted(labels.items()))), 0.0)


def test_requests_are_counted_by_template_and_status(a_session):
    told = {"method": "GET", "route": "/session/{session_id}", "status": "404"}
    before = numbers(a_session)

    a_session.get("/session/Mr-Smith")
    a_session.get("/session/Mrs-Smith")

    after = numbers(a_session)
    assert of(after, "bird_requests_total", **told) == of(before, "bird_requests_total", **told) + 2
    assert of(after, "bird_request_seconds_count", method="GET", route=told["route"]) >= 2
    assert "Smith" not in str(after)


def test_the_metrics_tell_of_jobs_volumes_and_the_model(a_session, a_volume_id, a_volume_file):
    body = {"volume_id": a_volume_id, "labels": [PRESENT]}
    assert a_session.post("/bird/v1/ground", json=body).ok

    values = numbers(a_session)

    model = {"id": "scripted", "device": "cpu", "version": service.current().version}
    assert of(values, "bird_model_info", **model) == 1
    assert of(values, "bird_volumes_stored_bytes") >= a_volume_file.stat().st_size
    assert of(values, "bird_jobs", state="done") >= 1
    assert of(values, "bird_jobs", state="running") == 0
    assert of(values, "process_resident_memory_bytes") > 1 << 20


def test_unknown_methods_are_one_row(a_session):
    for method in ("BREW", "STIR", "POUR"):
        a_session.request(method, "/bird/v1/health")

    methods = {dict(labels).get("method") for _, labels in numbers(a_session)}
    assert "OTHER" in methods
    assert not methods & {"BREW", "STIR", "POUR"}


@pytest.fixture
def a_loaded_model(a_model) -> None:
    """The scripted model is in memory, as a started server's is."""
    assert service.current().card.id == "scripted"


def test_a_server_without_a_model_is_live_and_not_ready(a_session):
    assert a_session.get("/bird/v1/live").json() == {"status": "live"}
    assert "no model is loaded" in a_session.get("/bird/v1/ready").json()["reasons"]


def test_a_started_server_is_live_and_ready(a_session, a_loaded_model):
    assert a_session.get("/bird/v1/live").json() == {"status": "live"}
    assert a_session.get("/bird/v1/ready").json() == {"status": "ready"}


def test_a_full_disk_is_a_reason_against(a_session, a_loaded_model, monkeypatch):
    monkeypatch.setenv(readiness.FLOOR_VARIABLE, str(1 << 62))

    problem = a_session.get("/bird/v1/ready")

    assert problem.status_code == 503
    (reason,) = problem.json()["reasons"]
    assert "below the floor" in reason
    assert problem.json()["error"] == "not_ready"


def test_a_disk_that_hangs_is_a_reason_against_and_costs_one_thread(
    a_session, a_loaded_model, monkeypatch
):
    looks, disk = [], threading.Event()

    def hang(*_):
        looks.append(threading.current_thread())
        assert disk.wait(60)
        return []

    with monkeypatch.context() as patch:
        patch.setattr(operation, "reasons_against", hang)
        patch.setattr(operation, "STORE_ANSWERS_WITHIN_S", 0.05)
        told = [a_session.get("/bird/v1/ready").json()["reasons"] for _ in range(5)]
        disk.set()
        looks[0].join(60)

    assert told == [["the store does not answer"]] * 5
    assert len(looks) == 1
    assert a_session.get("/bird/v1/ready").json() == {"status": "ready"}


def test_a_store_that_is_gone_is_a_reason_against(a_loaded_model, tmp_path):
    current = service.current()
    assert readiness.reasons_against(current, 0) == []
    assert not readiness.can_write(tmp_path / "nowhere")
    assert readiness.reasons_against(None, 0) == ["the server has not started yet"]


def watched(app, **headers: str) -> list[dict]:
    """What is sent where `app` is asked through the outermost middleware."""
    sent = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }

    async def send(message):
        sent.append(message)

    asyncio.run(Watching(app)(scope, None, send))
    return sent


def test_an_unforeseen_failure_has_a_number_and_its_reason_is_in_the_log_only(caplog):
    async def failing(_scope, _receive, _send):
        raise RuntimeError("a secret")

    start, body = watched(failing, **{"x-request-id": "number-7"})

    problem = json.loads(body["body"])
    assert start["status"] == 500
    assert (b"x-request-id", b"number-7") in start["headers"]
    assert "number-7" in problem["detail"]
    assert "secret" not in str(problem)
    assert "a secret" in caplog.text


def test_a_failure_within_an_answer_ends_it(caplog):
    async def failing(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("a secret")

    (start,) = watched(failing)

    assert start["status"] == 200
    assert "a secret" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(number):
    async def failing(_scope, _receive, _send):
        raise OSError(number, "no room")

    start, body = watched(failing)

    assert (start["status"], json.loads(body["body"])["error"]) == (507, "disk_full")


def test_a_refusal_has_a_number_too(a_session):
    answer = a_session.get("/bird/v1/nothing")

    assert_refused(answer, 404, "not_found")
    assert len(answer.headers["X-Request-ID"]) == 32


def record(message: str, *arguments: object, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "bird", "msg": message, "args": arguments, **fields})
    made.levelname = "WARNING"
    return made


def test_the_log_as_json_is_one_object_per_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        failed = record("%s failed", "it", exc_info=sys.exc_info(), route="/x", request_id="r7")

    (line,) = JsonFormatter().format(failed).splitlines()

    entry = json.loads(line)
    assert entry["message"] == "it failed"
    assert (entry["level"], entry["logger"], entry["request"]) == ("warning", "bird", "r7")
    assert entry["route"] == "/x"
    assert "two\nlines" in entry["traceback"]
    assert entry["time"].endswith("+00:00")


@pytest.mark.parametrize(("chosen", "is_told"), [("", False), ("1", True)])
def test_what_people_typed_is_in_the_log_by_choice_only(
    a_session, a_volume_id, monkeypatch, caplog, chosen, is_told
):
    monkeypatch.setenv(logs.QUESTIONS_VARIABLE, chosen)
    question = {"volume_id": a_volume_id, "question": "What has Mr Smith?", "slice": 1}

    with caplog.at_level(logging.INFO):
        a_session.post("/bird/v1/ask?from=Mrs-Smith", json=question)

    told = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert ("Mr Smith" in told, "Mrs-Smith" in told) == (is_told, is_told)


@pytest.mark.parametrize(("chosen", "level"), [("", logging.ERROR), ("1", logging.INFO)])
def test_what_monai_label_says_of_requests_is_silent_by_default(monkeypatch, chosen, level):
    talker = logging.getLogger("monailabel")
    monkeypatch.setattr(talker, "level", talker.level)
    monkeypatch.setenv(logs.QUESTIONS_VARIABLE, chosen)

    logs.keep_names_out()

    assert talker.getEffectiveLevel() == level
