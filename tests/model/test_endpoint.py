"""Asking a language model elsewhere: a real server in its own process, good, slow and broken."""

from __future__ import annotations

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from PIL import Image

from bird_vlm.chat import ChatMessage, ChatRequest, image_data_url
from bird_vlm.endpoint import Endpoint, EndpointSettings, Pace
from bird_vlm.endpoint_errors import EndpointDownError, EndpointError
from bird_vlm.errors import BadVolumeError, BirdError
from scripted_llm import ScriptedLlm

KEY = "very-secret-4711"  # in no form that looks like a key


@pytest.fixture(scope="module")
def a_running_server():
    with ScriptedLlm() as llm:
        yield llm


@pytest.fixture
def a_server(a_running_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    a_running_server.script()
    return a_running_server


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr("bird_vlm.endpoint._LONGEST_PAUSE_S", 0.05)


def a_question(text="ping", **fields) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), **fields)


def settings_of(server, **fields) -> EndpointSettings:
    return EndpointSettings(server.url, "scripted", **{"attempts": 3, "timeout_s": 5.0} | fields)


def test_an_answer_comes_with_what_it_took(a_server):
    with Endpoint(settings_of(a_server)) as endpoint:
        answer = endpoint.ask(a_question(seed=7, temperature=0.5, max_tokens=9))
    assert (answer.text, answer.finish) == ("pong", "stop")
    assert (answer.question_tokens, answer.answer_tokens, answer.cached) == (100, 20, False)
    asked = a_server.log()[0]
    assert asked["key"] == f"Bearer {KEY}"
    assert asked["body"] == {
        "model": "scripted",
        "messages": [{"role": "user", "content": "ping"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 7,
    }


def test_extra_fields_go_over_the_others_and_none_takes_one_out(a_server):
    extra = {"max_tokens": None, "max_completion_tokens": 5, "top_k": 3}
    with Endpoint(settings_of(a_server)) as endpoint:
        endpoint.ask(a_question(extra=extra))
    body = a_server.log()[0]["body"]
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["top_k"]) == (5, 3)


def test_pictures_go_before_the_text_as_data_urls(a_server, tmp_path):
    pixels = np.arange(60, dtype=np.uint8).reshape(5, 12)
    jpeg, tiff = tmp_path / "a.jpg", tmp_path / "b.tif"
    Image.fromarray(pixels).save(jpeg)
    Image.fromarray(pixels).save(tiff)
    urls = tuple(image_data_url(image) for image in (jpeg, tiff, pixels))
    with Endpoint(settings_of(a_server)) as endpoint:
        endpoint.ask(ChatRequest((ChatMessage("user", "what is this?", urls),)))
    *pictures, text = a_server.log()[0]["body"]["messages"][0]["content"]
    assert text == {"type": "text", "text": "what is this?"}
    heads, bodies = zip(*(p["image_url"]["url"].split(",") for p in pictures), strict=True)
    assert heads == ("data:image/jpeg;base64", *["data:image/png;base64"] * 2)
    assert base64.b64decode(bodies[0]) == jpeg.read_bytes()
    for body in bodies[1:]:
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("L"))
        assert np.array_equal(shown, pixels)


def test_a_file_that_is_no_picture_is_told_by_name(tmp_path):
    (tmp_path / "notes.txt").write_text("no pixels")
    with pytest.raises(BadVolumeError, match=r"notes\.txt: is no picture"):
        image_data_url(tmp_path / "notes.txt")


PASSING = [
    pytest.param({"do": "status", "status": 500}, id="server-error"),
    pytest.param({"do": "status", "status": 429}, id="too-many-requests"),
    pytest.param({"do": "status", "status": 503, "headers": {"Retry-After": "x"}}, id="odd-header"),
    pytest.param({"do": "raw", "text": "<html>busy</html>"}, id="no-json"),
    pytest.param({"do": "raw", "text": '{"choices": []}'}, id="no-choices"),
    pytest.param({"do": "raw", "text": '[{"choices": 1}]'}, id="a-list"),
    pytest.param({"do": "raw", "text": ""}, id="nothing"),
    pytest.param({"do": "cut"}, id="cut-connection"),
]


@pytest.mark.parametrize("behaviour", PASSING)
def test_what_may_pass_is_tried_again(a_server, behaviour):
    a_server.script(behaviour, behaviour)
    with Endpoint(settings_of(a_server)) as endpoint:
        assert endpoint.ask(a_question()).text == "pong"
    assert (endpoint.used.answered, endpoint.used.retried, endpoint.used.failed) == (1, 2, 0)


@pytest.mark.parametrize("behaviour", PASSING)
def test_what_does_not_pass_is_told_with_address_model_and_advice(a_server, behaviour):
    a_server.script(*[behaviour] * 3)
    with (
        Endpoint(settings_of(a_server)) as endpoint,
        pytest.raises(EndpointError, match="; ") as caught,
    ):
        endpoint.ask(a_question())
    assert a_server.url in str(caught.value)
    assert "'scripted'" in str(caught.value)
    assert (endpoint.used.answered, endpoint.used.failed) == (0, 1)
    assert len(a_server.log()) == 3


def test_a_slow_answer_is_given_up_after_the_allowed_time(a_server):
    a_server.script({"do": "sleep", "seconds": 2}, {"do": "sleep", "seconds": 2})
    start = time.monotonic()
    with (
        Endpoint(settings_of(a_server, timeout_s=0.3, attempts=2)) as endpoint,
        pytest.raises(EndpointError, match=r"no answer within 0\.3 s"),
    ):
        endpoint.ask(a_question())
    assert time.monotonic() - start < 1.8


def test_the_pause_that_a_server_asks_for_is_kept(a_server):
    a_server.script({"do": "status", "status": 429, "headers": {"Retry-After": "0.8"}})
    with Endpoint(settings_of(a_server)) as endpoint:
        endpoint.ask(a_question())
    first, second = (entry["time"] for entry in a_server.log())
    assert second - first >= 0.8


QUOTA = {"error": {"message": "pay first", "code": "insufficient_quota"}}


@pytest.mark.parametrize(
    ("behaviour", "advice"),
    [
        pytest.param(
            {"status": 401, "body": {"error": {"message": f"bad key {KEY}"}}},
            "environment variable OPENAI_API_KEY",
            id="wrong-key",
        ),
        pytest.param({"status": 404}, "address end in /v1", id="no-such-model"),
        pytest.param({"status": 429, "body": QUOTA}, "no credit left", id="no-credit"),
    ],
)
def test_what_no_question_can_pass_ends_it_at_once(a_server, behaviour, advice):
    a_server.script({"do": "status"} | behaviour)
    with (
        Endpoint(settings_of(a_server)) as endpoint,
        pytest.raises(EndpointDownError, match=advice),
    ):
        endpoint.ask(a_question())
    assert len(a_server.log()) == 1


def test_a_refused_request_is_not_repeated_and_does_not_stop_the_others(a_server):
    a_server.script({"do": "status", "status": 400, "body": {"detail": "max_tokens: too many"}})
    with Endpoint(settings_of(a_server, concurrency=1)) as endpoint:
        bad, good = endpoint.ask_all([a_question("one"), a_question("two")])
    assert isinstance(bad, EndpointError)
    assert "max_tokens: too many" in str(bad)
    assert good.text == "pong"
    assert len(a_server.log()) == 2


def test_nobody_there_is_told_so():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        settings = EndpointSettings(url, "any", attempts=2)
        with (
            Endpoint(settings) as endpoint,
            pytest.raises(EndpointDownError, match=r"cannot be reached .* is the server running"),
        ):
            endpoint.ask(a_question())


@pytest.mark.parametrize("behaviour", [401, 404, 429, 500, 400])
def test_the_key_is_never_shown(a_server, behaviour, caplog, capfd):
    body = {"error": {"message": f"Incorrect API key provided: {KEY}, also sk-abcdefgh."}}
    a_server.script(*[{"do": "status", "status": behaviour, "body": body}] * 3)
    settings = settings_of(a_server)
    with (
        Endpoint(settings) as endpoint,
        pytest.raises(EndpointError) as caught,
    ):
        endpoint.ask(a_question())
    seen = f"{caught.value}{caught.value.__cause__}{settings}{vars(settings)}{endpoint!r}"
    printed = capfd.readouterr()
    seen += caplog.text + printed.out + printed.err
    assert KEY not in seen
    assert "sk-abc" not in str(caught.value)


def test_answers_come_in_order_and_never_more_at_a_time_than_allowed(a_server):
    waits = [{"do": "sleep", "seconds": s} for s in (0.3, 0.05, 0.2, 0.05, 0.1, 0.05)]
    a_server.script(*({"do": "say", "text": "x"} | w | {"do": "sleep"} for w in waits))
    questions = [a_question(str(number)) for number in range(6)]
    with Endpoint(settings_of(a_server, concurrency=3)) as endpoint:
        answers = list(endpoint.ask_all(iter(questions)))
    log = a_server.log()
    assert len(answers) == 6
    assert max(entry["under_way"] for entry in log) == 3


def test_a_long_stream_of_questions_is_read_only_as_far_as_needed(a_server):
    taken = []

    def endless():
        for number in range(10_000):
            taken.append(number)
            yield a_question(str(number))

    with Endpoint(settings_of(a_server, concurrency=2)) as endpoint:
        answers = endpoint.ask_all(endless())
        assert next(answers).text == "pong"
        assert len(taken) <= 6
        answers.close()


def test_requests_per_minute_are_kept(a_server):
    with Endpoint(settings_of(a_server, requests_per_minute=600)) as endpoint:
        list(endpoint.ask_all(a_question(str(number)) for number in range(6)))
    times = sorted(entry["time"] for entry in a_server.log())
    assert times[-1] - times[0] >= 0.45


def test_tokens_per_minute_are_kept_by_what_was_used_not_by_what_was_allowed(a_server):
    """120 of 30,000 a minute were used each time: 0.24 s; 1200 were allowed: 2.4 s."""
    with Endpoint(settings_of(a_server, tokens_per_minute=30_000)) as endpoint:
        for number in range(4):
            endpoint.ask(a_question(str(number), max_tokens=1200))
    times = [entry["time"] for entry in a_server.log()]
    assert 0.65 <= times[-1] - times[0] < 5


def test_no_minute_exceeds_the_pace_and_what_was_not_used_is_given_back(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("bird_vlm.endpoint.time.monotonic", lambda: clock[0])
    pace = Pace(per_minute=60)
    assert [pace.reserve(1) for _ in range(3)] == [0, 1, 2]
    assert pace.reserve(100) == 3
    pace.settle(-90)
    assert pace.reserve(1) == pytest.approx(13)
    clock[0] += 1000
    assert pace.reserve(1) == 0
    assert Pace(None).reserve(10**9) == 0


def test_an_answer_on_disk_is_not_asked_for_again(a_server, tmp_path):
    with Endpoint(settings_of(a_server), tmp_path / "cache") as endpoint:
        first = endpoint.ask(a_question())
    with Endpoint(settings_of(a_server), tmp_path / "cache") as endpoint:
        again = endpoint.ask(a_question())
        other = endpoint.ask(a_question(seed=1))
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert again.text == first.text
    assert (endpoint.used.cached, endpoint.used.answered) == (1, 1)
    assert len(a_server.log()) == 2
    stored = b"".join(p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file())
    assert KEY.encode() not in stored


def test_failures_are_not_remembered(a_server, tmp_path):
    a_server.script({"do": "status", "status": 400})
    with Endpoint(settings_of(a_server), tmp_path / "cache") as endpoint:
        with pytest.raises(EndpointError):
            endpoint.ask(a_question())
        assert endpoint.ask(a_question()).text == "pong"


def test_a_cache_that_cannot_be_is_told(a_server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with (
        pytest.raises(BirdError, match=r"cache: .* cannot be used"),
        Endpoint(settings_of(a_server), tmp_path / "cache"),
    ):
        pass


def test_cancelling_ends_questions_under_way_and_refuses_new_ones(a_server):
    a_server.script(*[{"do": "sleep", "seconds": 4}] * 2)
    start = time.monotonic()
    with Endpoint(settings_of(a_server, timeout_s=30)) as endpoint:
        threading.Timer(0.3, endpoint.cancel).start()
        with pytest.raises(EndpointDownError, match="cancelled"):
            endpoint.ask(a_question())
        with pytest.raises(EndpointDownError, match="cancelled"):
            endpoint.ask(a_question())
    assert time.monotonic() - start < 3


ASKING = """
    import sys
    from pathlib import Path
    from bird_vlm.chat import ChatMessage, ChatRequest
    from bird_vlm.endpoint import Endpoint, EndpointSettings

    settings = EndpointSettings(sys.argv[1], "scripted", concurrency=1)
    requests = [ChatRequest((ChatMessage("user", str(n)),)) for n in range(4)]
    with Endpoint(settings, Path(sys.argv[2])) as endpoint:
        for answer in endpoint.ask_all(requests):
            print(answer.text, flush=True)
"""


def an_asking_process(server, cache):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ASKING), server.url, str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OPENAI_API_KEY": KEY},
    )


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_what_was_paid_for_survives_the_end_of_the_process(a_server, tmp_path, end):
    a_server.script({"do": "good"}, {"do": "good"}, {"do": "sleep", "seconds": 20})
    asking = an_asking_process(a_server, tmp_path)
    while len(a_server.log()) < 3:
        assert asking.poll() is None, asking.stderr.read()
        time.sleep(0.05)
    asking.send_signal(end)
    start = time.monotonic()
    asking.communicate()
    assert time.monotonic() - start < 5
    a_server.script()
    again = an_asking_process(a_server, tmp_path)
    out, errors = again.communicate(timeout=30)
    assert out.split() == ["pong"] * 4, errors
    assert len(a_server.log()) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"base_url": "localhost:8000"}, "is not an http or https", id="no-scheme"),
        pytest.param({"base_url": "ftp://host/v1"}, "is not an http or https", id="ftp"),
        pytest.param({"base_url": "http://me:pw@host/v1"}, "OPENAI_API_KEY instead", id="password"),
        pytest.param({"base_url": "http://host/v1?key=x"}, "OPENAI_API_KEY instead", id="query"),
        pytest.param({"model": ""}, "model: name one", id="no-model"),
        pytest.param({"attempts": 0}, "attempts: must be above 0, got 0", id="no-attempts"),
        pytest.param({"tokens_per_minute": -1}, "tokens_per_minute: must be above 0", id="pace"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields, message):
    with pytest.raises(BirdError, match=message) as caught:
        EndpointSettings(**{"base_url": "http://host/v1", "model": "m"} | fields)
    assert "pw" not in str(caught.value)


def test_missing_packages_are_named_with_the_way_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(BirdError, match="'openai'; install it with: pip install"):
        Endpoint(EndpointSettings("http://host/v1", "m"))


def test_asking_needs_no_torch():
    script = "import sys, bird_vlm.endpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
