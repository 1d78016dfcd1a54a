"""Strangers, readers who would write, other web pages; and what the log tells of all that."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from attacked import READ_TOKEN, WRITE_TOKEN, Attacked, ask, ask_json, assert_refused, settled, tree
from bird_server.access.tokens import ASKING, LOOKING, PROBES
from openapi_walk import routes

pytestmark = pytest.mark.slow


@pytest.fixture
def a_server(an_attacked_server) -> Attacked:
    return an_attacked_server


@pytest.mark.parametrize(
    "token", [None, "", "wrong", WRITE_TOKEN[:-1], WRITE_TOKEN + "x", WRITE_TOKEN.upper()]
)
def test_strangers_get_nothing_from_any_route(a_server, token):
    before = settled(a_server)

    for route in routes(a_server):
        if route.path in PROBES and token is None:
            continue
        answer = ask(a_server, route.method, route.target(), token=token)
        assert answer.status == 401, str(route)
        assert answer.headers["www-authenticate"] == "Bearer"

    assert tree(a_server.home) == before


def test_probes_need_no_token(a_server):
    answers = {path: ask(a_server, "GET", path, token=None) for path in PROBES}

    assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(PROBES, 200)


def test_readers_write_through_no_route(a_server):
    before, refused = settled(a_server), 0

    for route in routes(a_server):
        answer = ask(a_server, route.method, route.target(), token=READ_TOKEN)
        looks = route.method in LOOKING or route.path in ASKING
        assert (answer.status == 403) != looks, (str(route), answer.status)
        refused += answer.status == 403

    assert refused > 10
    assert tree(a_server.home) == before


def test_readers_look(a_server):
    assert ask(a_server, "GET", "/bird/v1/health", token=READ_TOKEN).status == 200
    question = {"volume_id": "0" * 64, "question": "What?", "slice": 0}
    answer = ask_json(a_server, "POST", "/bird/v1/ask", question, token=READ_TOKEN)
    assert assert_refused(answer, 404)["error"] == "unknown_volume"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://", "x" * 500]
)
def test_other_web_pages_get_nothing(a_server, origin):
    before = settled(a_server)
    preflight = {"Access_Control_Request_Method": "PUT"}

    answers = [
        ask(a_server, "GET", "/info/", Origin=origin),
        ask(a_server, "PUT", "/bird/v1/volumes?name=a.nii", b"x", Origin=origin),
        ask(a_server, "OPTIONS", "/bird/v1/volumes", token=None, Origin=origin, **preflight),
    ]

    for answer in answers:
        assert_refused(answer, 401, 403)
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert tree(a_server.home) == before


@pytest.mark.parametrize("path", ["/proxy/dicom/x", "/logs/", "/reload", "/model/bird_grounding"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_dangerous_stock_routes_are_closed(a_server, method, path):
    before = settled(a_server)

    assert assert_refused(ask(a_server, method, path), 404)["error"] == "closed"

    assert tree(a_server.home) == before


def test_other_machines_are_not_let_in_without_a_token(tmp_path):
    command = [sys.executable, "-m", "bird_server", "--studies", str(tmp_path / "studies")]

    run = subprocess.run(
        [*command, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=300, check=False
    )

    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1)
    assert "--token-file" in run.stderr
    assert not (tmp_path / "studies").exists()


def test_the_log_is_json_and_tells_neither_words_nor_names_nor_tokens(a_server):
    secret = "Mr-Smith"
    question = {"volume_id": "0" * 64, "question": secret, "slice": 0}
    ask_json(a_server, "POST", "/bird/v1/ask", question, X_Request_ID="my.request-7")
    ask(a_server, "GET", f"/datastore/image?image={secret}")
    ask(a_server, "GET", f"/session/{secret}")
    ask(a_server, "PUT", f"/bird/v1/volumes?name={secret}.nii", b"x")
    ask(a_server, "GET", f"/nowhere/{secret}")

    lines = [line for line in a_server.log.splitlines() if line.startswith("{")]
    entries = [json.loads(line) for line in lines]
    mine = [entry for entry in entries if entry["request"] == "my.request-7"]
    assert [(entry["route"], entry["status"]) for entry in mine] == [("/bird/v1/ask", 404)]
    assert not [word for word in (secret, WRITE_TOKEN, READ_TOKEN) if word in a_server.log]


def test_every_answer_has_its_number(a_server):
    for target in ("/info/", "/nowhere", "/bird/v1/jobs/x", "/datastore/image?image=.."):
        assert re.fullmatch("[0-9a-f]{32}", ask(a_server, "GET", target).headers["x-request-id"])


def test_a_number_that_would_break_the_log_is_replaced(a_server):
    answer = ask(a_server, "GET", "/info/", X_Request_ID='x" "status": 200')

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
