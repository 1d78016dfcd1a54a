"""Models elsewhere in the same table: predictions through an OpenAI-compatible server."""

from __future__ import annotations

import json

import pytest
from typer import Typer
from typer.testing import CliRunner

from asking import files_of, write_test_set
from bird_training.commands.predict import predict
from bird_training.evaluation.answering import chat_request
from bird_training.evaluation.questions import read_test_set
from bird_vlm.console import plain_errors
from scripted_llm import ScriptedLlm

app = Typer()
app.command()(plain_errors(predict))


@pytest.fixture(scope="module")
def a_server():
    with ScriptedLlm() as server:
        yield server


@pytest.fixture
def data(tmp_path):
    return write_test_set(tmp_path / "OUT", pictures=3)


def run(server: ScriptedLlm, data, out, *options: str):
    arguments = ["--data", data, "--out", out, "--endpoint", server.url, "--model", "other"]
    return CliRunner().invoke(app, [*map(str, arguments), *options])


def test_every_question_is_sent_with_its_picture(a_server, data, tmp_path):
    a_server.script(*[{"do": "sleep", "seconds": 0.3}] * 4)
    result = run(a_server, data, tmp_path / "p", "--concurrency", "4")
    assert result.exit_code == 0, result.output
    asked = [entry["body"]["messages"] for entry in a_server.log()]
    assert len(asked) == 15
    assert max(entry["under_way"] for entry in a_server.log()) > 1
    for (message,) in asked:
        picture, text = message["content"]
        assert picture["image_url"]["url"].startswith("data:image/png;base64,")
        assert "<img>" not in text["text"]
    rows = [json.loads(line) for line in files_of(tmp_path / "p")["ROC.jsonl"].splitlines()]
    assert {row["response"] for row in rows} == {"pong"}
    assert json.loads((tmp_path / "p" / "run.json").read_text())["model"] == "other"


def test_answers_stay_with_their_questions_however_long_they_take(a_server, data, tmp_path):
    slow = {"do": "sleep", "seconds": 0.5, "text": "slow"}
    a_server.script(slow, *({"do": "say", "text": f"answer {n}"} for n in range(14)))
    assert run(a_server, data, tmp_path / "p", "--concurrency", "5").exit_code == 0
    said = {
        row["question"]: row["response"]
        for text in files_of(tmp_path / "p").values()
        for row in map(json.loads, text.splitlines())
    }
    assert len(said) == 15
    log = a_server.log()
    sent = [e["body"]["messages"][0]["content"][1]["text"] for e in log]
    (slow_question,) = [q for q, answer in said.items() if answer == "slow"]
    assert slow_question.endswith(sent[0])


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"do": "status", "status": 429, "body": {}}, id="too many"),
        pytest.param({"do": "status", "status": 503, "body": {}}, id="busy"),
        pytest.param({"do": "cut"}, id="cut line"),
        pytest.param({"do": "sleep", "seconds": 1.5}, id="slow"),
    ],
)
def test_what_may_pass_is_asked_again(a_server, data, tmp_path, monkeypatch, trouble):
    monkeypatch.setattr("bird_vlm.endpoint._LONGEST_PAUSE_S", 0.05)
    a_server.script(trouble, {"do": "good"}, trouble)
    result = run(a_server, data, tmp_path / "p", "--concurrency", "1", "--timeout", "1")
    assert result.exit_code == 0, result.output
    assert len(a_server.log()) == 17  # 15 questions, two of them twice
    rows = [row for text in files_of(tmp_path / "p").values() for row in text.splitlines()]
    assert len(rows) == 15
    assert not any(json.loads(row).get("failed") for row in rows)


def test_a_refused_question_stops_the_run_which_then_goes_on(a_server, data, tmp_path):
    refusal = {"do": "status", "status": 400, "body": {"error": {"message": "too large"}}}
    good = [{"do": "good"}] * 7
    a_server.script(*good, refusal)
    result = run(a_server, data, tmp_path / "p", "--concurrency", "1")
    assert result.exit_code == 2
    assert "too large" in " ".join(result.stderr.split())
    written = sum(text.count(b"\n") for text in files_of(tmp_path / "p").values())
    assert written == 5  # the picture before
    a_server.script()
    assert run(a_server, data, tmp_path / "p", "--concurrency", "1").exit_code == 0
    assert len(a_server.log()) == 10
    a_server.script(refusal)
    kept = run(a_server, data, tmp_path / "kept", "--concurrency", "1", "--keep-failed")
    assert kept.exit_code == 0
    assert "1 of 15 questions got no answer" in " ".join(kept.stderr.split())
    failed = json.loads(files_of(tmp_path / "kept")["VG.jsonl"].splitlines()[0])
    assert (failed["response"], "too large" in failed["failed"]) == ("", True)


def test_the_same_name_at_another_address_is_another_model(a_server, data, tmp_path):
    a_server.script()
    assert run(a_server, data, tmp_path / "p").exit_code == 0
    with ScriptedLlm() as elsewhere:
        result = run(elsewhere, data, tmp_path / "p")
    assert result.exit_code == 2
    assert "choose another folder" in " ".join(result.stderr.split())


def test_earlier_turns_go_first(data):
    from dataclasses import replace

    question = replace(read_test_set(data)[0], history=(("What?", "A liver."),))
    messages = chat_request(question).messages
    assert [m.role for m in messages] == ["user", "assistant", "user"]
    assert [len(m.images) for m in messages] == [1, 0, 0]
    assert [m.text for m in messages][:2] == ["What?", "A liver."]
