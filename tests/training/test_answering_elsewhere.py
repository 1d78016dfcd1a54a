"""A test set put to a model of another family on a server, in that family's own language."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from asking import write_test_set
from bird_training.cli import app
from bird_vlm.dialects import dialect_of
from bird_vlm.grammar import format_absent, parse_grounding
from seeing_server import (
    MODEL,
    ModelServer,
    Reply,
    Sight,
    a_knowing_model,
    a_seeing_server,
    completion,
    refusal,
)

PICTURES = 3
QUESTIONS = 6  # about a picture: five, and where the liver is once it is there


@pytest.fixture
def a_server(monkeypatch) -> Iterator[ModelServer]:
    """It sees a liver where a picture is white, and no heart."""
    monkeypatch.setattr("bird_vlm.endpoint._LONGEST_PAUSE_S", 0.05)
    knowing = a_knowing_model(dialect_of("qwen3-vl"), label="liver")
    with a_seeing_server() as world:
        world.answer = lambda s: completion("No.") if "heart" in s.prompt else knowing(s)
        yield world


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_test_set(tmp_path_factory.mktemp("test") / "OUT", PICTURES)


def predict(server: ModelServer, data: Path, out: Path, *more: str) -> Result:
    command = ["predict", "--data", data, "--out", out, "--endpoint", server.url, "--model", MODEL]
    return CliRunner().invoke(app, [*map(str, command), "--dialect", "qwen3-vl", *more])


def rows(out: Path, task: str) -> list[dict]:
    return [json.loads(line) for line in (out / f"{task}.jsonl").read_text().splitlines()]


def test_places_are_asked_for_as_the_product_does_and_kept_as_the_test_set_has_them(
    a_server, data, tmp_path
):
    knowing = a_server.answer

    def answer(sight: Sight) -> Reply:
        time.sleep(0.05)  # so that questions meet
        return knowing(sight)

    a_server.answer = answer
    result = predict(a_server, data, tmp_path / "p", "--concurrency", "4")
    assert result.exit_code == 0, result.output
    there, absent = rows(tmp_path / "p", "VG")[::2], rows(tmp_path / "p", "VG")[1::2]
    seen = {s.box_norm for s in a_server.asked}
    assert {parse_grounding(row["response"]).boxes_norm[0] for row in there} == seen
    assert {row["response"] for row in absent} == {format_absent("heart")}
    assert [row["score"] for row in (*there, *absent)] == [1.0] * PICTURES + [0.0] * PICTURES
    assert not any("<ref>" in s.prompt or "<box>" in s.prompt for s in a_server.asked)
    assert 1 < a_server.most_under_way <= 4


def refusing(answer: Callable[[Sight], Reply], picture: int) -> Callable[[Sight], Reply]:
    """As `answer`, but a question in words about the picture of that number is refused for good."""
    shown: list[bytes] = []

    def answer_or_refuse(sight: Sight) -> Reply:
        if "What kind" not in sight.prompt:
            return answer(sight)
        if sight.picture.tobytes() not in shown:
            shown.append(sight.picture.tobytes())
        refused = shown.index(sight.picture.tobytes()) == picture
        return refusal(400, "too large") if refused else answer(sight)

    return answer_or_refuse


def test_what_the_server_refuses_stops_it_and_it_goes_on(a_server, data, tmp_path):
    knowing = a_server.answer
    a_server.answer = refusing(knowing, picture=1)
    result = predict(a_server, data, tmp_path / "p", "--concurrency", "1")
    assert result.exit_code == 2, result.output
    assert "too large" in " ".join(result.stderr.split())
    a_server.answer = knowing
    a_server.asked.clear()
    assert predict(a_server, data, tmp_path / "p", "--concurrency", "1").exit_code == 0
    assert len(rows(tmp_path / "p", "MIA")) == PICTURES
    assert len(a_server.asked) == 2 * QUESTIONS


def test_what_the_server_refuses_is_listed_where_that_is_wanted(a_server, data, tmp_path):
    a_server.answer = refusing(a_server.answer, picture=1)
    result = predict(a_server, data, tmp_path / "p", "--keep-failed")
    assert result.exit_code == 0, result.output
    failed = [row for row in rows(tmp_path / "p", "MIA") if row.get("failed")]
    assert len(failed) == 1
    assert "too large" in failed[0]["failed"]


def test_a_dialect_without_an_endpoint_is_refused(data, tmp_path):
    command = ["predict", "--data", data, "--out", tmp_path / "p", "--dialect", "qwen3-vl"]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 2
    assert "name their --endpoint too" in " ".join(result.stderr.split())
