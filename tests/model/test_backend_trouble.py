"""A model on another server that is busy, slow, refuses or dies: asked again, or told and kept."""

from __future__ import annotations

import json
import time

import pytest

from bird_vlm.backend import BackendError
from bird_vlm.dialects import dialect_of
from elsewhere import asked_once, engine_on, error_line, found, ground
from seeing_server import MODEL, ModelServer, a_knowing_model, refusal


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(refusal(429), id="too many"),
        pytest.param(refusal(503), id="busy"),
        pytest.param((200, '{"choices": [', {}), id="half a reply"),
        pytest.param(0.7, id="slow"),
    ],
)
def test_what_may_pass_is_waited_for(a_server, scan, trouble):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    a_server.before = [trouble] * 2
    result = ground(a_server, scan, "--timeout", "0.4")
    assert result.exit_code == 0, result.output
    assert sorted(found(scan)) == [3, 4, 5, 6]
    assert "2 tries again" in result.stderr


def test_the_pause_that_the_server_wishes_is_kept(a_server, a_picture):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    a_server.before = [refusal(429, **{"Retry-After": "0.6"})]
    asked_once(engine_on(a_server), a_picture)
    assert a_server.times[1] - a_server.times[0] >= 0.6


@pytest.mark.parametrize("dies_after", [7, 9])
def test_a_server_that_dies_is_told_and_what_was_found_is_kept(a_server, scan, dies_after):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    a_server.dies_after = dies_after
    result = ground(a_server, scan, "--slices", "3:9", "--concurrency", "1")
    line = error_line(result)
    assert a_server.url in line
    assert "cannot be reached" in line
    assert "is the server running" in line
    assert not (scan.parent / "out.json").exists()
    kept = json.loads((scan.parent / "out.unfinished.json").read_text())
    assert (kept["done"], kept["total"], kept["model"]) == (3, 6, MODEL)
    assert [box["slice"] for box in kept["boxes"]] == [3, 4, 5]
    assert "3 of 6 questions were answered, 3 boxes found" in result.stderr


def test_with_a_cache_the_same_command_goes_on(a_server, a_scan_of_unlike_slices, tmp_path):
    scan = a_scan_of_unlike_slices
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    a_server.dies_after = 5
    more = ["--cache", tmp_path / "answers", "--concurrency", "1", "--slices", "3:7"]
    assert ground(a_server, scan, *more).exit_code == 2
    a_server.dies_after = None
    a_server.asked.clear()
    result = ground(a_server, scan, *more)
    assert result.exit_code == 0, result.output
    assert sorted(found(scan)) == [3, 4, 5, 6]
    assert len(a_server.asked) == 3
    assert "3 answers, 5 from disk" in result.stderr


def test_nobody_there_is_told_before_anything_is_asked(scan):
    nowhere = ModelServer("http://127.0.0.1:9/v1")
    begin = time.monotonic()
    line = error_line(ground(nowhere, scan))
    assert "endpoint http://127.0.0.1:9/v1" in line
    assert "cannot be reached" in line
    assert time.monotonic() - begin < 5


def test_a_question_that_is_refused_ends_it(a_server, a_picture):
    a_server.answer = lambda sight: refusal(400, "context of 512 tokens exceeded")
    with pytest.raises(BackendError, match="context of 512 tokens exceeded") as caught:
        asked_once(engine_on(a_server), a_picture)
    assert a_server.url in str(caught.value)
