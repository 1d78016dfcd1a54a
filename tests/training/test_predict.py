"""Predictions: a line per question, interrupted anywhere and gone on with, one model per folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from asking import BOX, Knowing, files_of, write_test_set
from bird_training.evaluation.answering import Answer
from bird_training.evaluation.predict import predict
from bird_training.evaluation.predictions import read_predictions
from bird_training.evaluation.questions import read_test_set
from bird_vlm.errors import BirdError
from bird_vlm.grammar import parse_grounding

TASKS = ("VG", "ROC", "RC", "MIA")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "OUT"
    return read_test_set(write_test_set(folder, pictures=8, facts=True))


@pytest.fixture(scope="module")
def whole(questions, tmp_path_factory) -> dict[str, bytes]:
    """The files of a run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    assert predict(questions, Knowing(), out) == 0
    return files_of(out)


def test_there_is_a_line_per_question(questions, whole, tmp_path):
    rows = {name: [json.loads(line) for line in text.splitlines()] for name, text in whole.items()}
    assert {name: len(of_task) for name, of_task in rows.items()} == {
        "VG.jsonl": 16,
        "ROC.jsonl": 8,
        "RC.jsonl": 8,
        "MIA.jsonl": 8,
    }
    first = rows["VG.jsonl"][0]
    keys = ["id", "image", "question", "annotation", "response", "score", "modality", "case"]
    assert list(first) == keys
    assert first["response"] == f"0: {first['annotation']}"
    assert "score" not in rows["MIA.jsonl"][0]
    for name, text in whole.items():
        (tmp_path / name).write_bytes(text)
    read = read_predictions(tmp_path)
    assert [p.case for p in read["ROC"]][:3] == ["A/p0", "A/p0", "A/p1"]


def test_a_finished_folder_is_left_alone(questions, whole, tmp_path):
    predict(questions, Knowing(), tmp_path)
    again = Knowing()
    seen: list[tuple[int, int]] = []
    predict(questions, again, tmp_path, on_progress=lambda *done: seen.append(done))
    assert (again.asked, seen) == ([], [(40, 40)])
    assert files_of(tmp_path) == whole


def test_an_interrupted_run_goes_on_where_it_stopped(questions, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict(questions, Knowing(stop_after=2), tmp_path)
    rest = Knowing()
    seen: list[tuple[int, int]] = []
    predict(questions, rest, tmp_path, on_progress=lambda *done: seen.append(done))
    assert [len(batch) for batch in rest.asked] == [10, 10]
    assert seen == [(20, 40), (30, 40), (40, 40)]
    assert files_of(tmp_path) == whole


@settings(max_examples=30)
@given(st.data())
def test_cut_anywhere_the_same_files_come_out(questions, whole, tmp_path_factory, data):
    out = tmp_path_factory.mktemp("cut")
    predict(questions, Knowing(), out)
    for name, text in whole.items():
        length = data.draw(st.integers(0, len(text)), label=name)
        (out / name).write_bytes(text[:length])
    predict(questions, Knowing(), out)
    assert files_of(out) == whole


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param({"name": "another"}, "model", id="another-model"),
        pytest.param({"fingerprint": "2"}, "weights", id="trained-again"),
    ],
)
def test_a_folder_holds_one_model(questions, tmp_path, change, word):
    predict(questions, Knowing(), tmp_path)
    before = files_of(tmp_path)
    other = Knowing()
    vars(other).update(change)
    with pytest.raises(BirdError, match=f"'knowing' with other {word}; choose another folder"):
        predict(questions, other, tmp_path)
    assert files_of(tmp_path) == before


def test_a_folder_holds_one_test_set(questions, tmp_path):
    predict(questions, Knowing(), tmp_path)
    with pytest.raises(BirdError, match="other questions"):
        predict(questions[1:], Knowing(), tmp_path)


def test_a_folder_of_unknown_answers_is_refused(questions, tmp_path):
    (tmp_path / "VG.jsonl").write_text("")
    with pytest.raises(BirdError, match="unknown model"):
        predict(questions, Knowing(), tmp_path)


def test_foreign_lines_are_refused(questions, tmp_path):
    predict(questions, Knowing(), tmp_path)
    lines = (tmp_path / "VG.jsonl").read_text().splitlines()
    (tmp_path / "VG.jsonl").write_text("\n".join([lines[1], lines[0], ""]))
    with pytest.raises(BirdError, match="line 1: answers another question"):
        predict(questions, Knowing(), tmp_path)


def test_two_at_a_time_are_refused(questions, tmp_path):
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(BirdError, match="another process writes into"),
    ):
        predict(questions, Knowing(), tmp_path)


def test_failed_answers_are_counted_and_marked(questions, tmp_path):
    class Failing(Knowing):
        def answer(self, batches):
            for batch in batches:
                yield [Answer("", failed="HTTP 400") for _ in batch]

    assert predict(questions, Failing(), tmp_path) == 40
    row = json.loads((tmp_path / "MIA.jsonl").read_text().splitlines()[0])
    assert (row["response"], row["failed"]) == ("", "HTTP 400")


def test_failed_answers_are_asked_again_in_their_places(questions, whole, tmp_path):
    class OftenFailing(Knowing):
        def answer(self, batches):
            for answers in super().answer(batches):
                yield [Answer("", failed="HTTP 400") if n % 3 else a for n, a in enumerate(answers)]

    assert predict(questions, OftenFailing(), tmp_path) == 24
    again = Knowing()
    seen: list[tuple[int, int]] = []
    assert predict(questions, again, tmp_path, on_progress=lambda *done: seen.append(done)) == 0
    assert (sum(map(len, again.asked)), seen[0], seen[-1]) == (24, (16, 40), (40, 40))
    for name, text in files_of(tmp_path).items():
        rows = [json.loads(line) for line in text.splitlines()]
        before = [json.loads(line) for line in whole[name].splitlines()]
        assert [row["question"] for row in rows] == [row["question"] for row in before]
        assert all(row["response"].endswith(row["annotation"]) for row in rows)
        assert not any("failed" in row for row in rows)


COMMAND = """
import sys, typer
from bird_training.commands.predict import predict
from bird_vlm.console import plain_errors
app = typer.Typer()
app.command()(plain_errors(predict))
app(sys.argv[1:])
"""


def a_run(data: Path, out: Path) -> subprocess.Popen:
    arguments = ["--data", data, "--out", out, "--batch", "5", "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(run: subprocess.Popen) -> None:
    _, error = run.communicate()
    assert run.returncode == 0, error.decode()


@pytest.mark.slow
def test_a_killed_run_of_the_shipped_model_ends_as_an_unbroken_one(tmp_path):
    data = write_test_set(tmp_path / "OUT", pictures=6)
    finish(a_run(data, tmp_path / "unbroken"))
    broken = a_run(data, tmp_path / "broken")
    while not (tmp_path / "broken" / "MIA.jsonl").is_file() and broken.poll() is None:
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)
    broken.communicate()
    assert broken.returncode == -signal.SIGKILL
    before = files_of(tmp_path / "broken")
    whole = files_of(tmp_path / "unbroken")
    assert before["VG.jsonl"].count(b"\n") < whole["VG.jsonl"].count(b"\n")
    with (tmp_path / "broken" / "VG.jsonl").open("ab") as file:
        file.write(b'{"id": "ct_00--A--p')  # as a power cut may leave it
    finish(a_run(data, tmp_path / "broken"))
    assert files_of(tmp_path / "broken") == whole


@pytest.fixture(scope="module")
def an_answerer(questions):
    from bird_training.evaluation.answering_engine import EngineAnswerer
    from bird_vlm.running import Running

    return EngineAnswerer("bird-mini", Running("cpu"), batch=8)


def test_presence_is_what_the_product_reads(an_answerer, questions):
    from bird_training.sources.reading import read_slice_picture

    engine = an_answerer._engine
    asked = [q for q in questions if q.task == "VG"][:6]
    ours = [answer for (answer, *_) in an_answerer.answer([[q] for q in asked])]
    for question, answer in zip(asked, ours, strict=True):
        label = parse_grounding(question.annotation).label
        features = engine.encode([read_slice_picture(question.picture)])
        ((product,),) = engine.ground(features, [label])
        assert answer.score == pytest.approx(product.presence, abs=1e-4)


def test_answers_do_not_hang_on_their_company(an_answerer, questions):
    asked = [q for q in questions if q.picture in {questions[0].picture, questions[2].picture}]
    (together,) = an_answerer.answer([asked])
    apart = [answer for (answer,) in an_answerer.answer([[q] for q in asked])]
    assert [a.text for a in together] == [a.text for a in apart]
    assert [a.score or 0 for a in together] == pytest.approx(
        [a.score or 0 for a in apart], abs=1e-4
    )
    assert [a.score is None for a in together] == [q.task in ("RC", "MIA") for q in asked]


def test_a_question_with_control_tokens_is_refused(an_answerer, questions):
    from dataclasses import replace

    bad = replace(questions[0], text="What <|im_start|> is it?")
    with pytest.raises(BirdError, match=f"{bad.id}.*control token"):
        list(an_answerer.answer([[bad]]))


def test_earlier_turns_change_the_answer_they_precede(an_answerer, questions):
    from dataclasses import replace

    later = replace(
        questions[0], history=(("What is in the area <box>(1,2),(3,4)</box>?", "liver"),)
    )
    chat = an_answerer._engine._chat(later)
    assert chat.index("<imgpad>") < chat.index("(1,2)") < chat.index("Where is the")
    assert chat.count("<|im_start|>assistant") == 2


@pytest.mark.parametrize(
    ("folder", "name"), [("runs/small/model", "small"), ("weights/bird-mini", "bird-mini")]
)
def test_a_model_folder_of_a_run_is_named_after_the_run(folder, name):
    from bird_training.evaluation.answering_engine import folder_name

    assert folder_name(Path(folder)) == name


def test_weights_trained_again_have_another_fingerprint(tmp_path):
    from bird_training.evaluation.answering_engine import weights_fingerprint

    (tmp_path / "config.json").write_text("{}")
    weights = bytearray(os.urandom(3_000_000))
    (tmp_path / "model.safetensors").write_bytes(weights)
    before = weights_fingerprint(tmp_path)
    assert before == weights_fingerprint(tmp_path)
    weights[: len(weights)] = os.urandom(len(weights))
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert weights_fingerprint(tmp_path) != before


def test_boxes_in_questions_reach_the_model(questions):
    x0, y0, x1, y1 = BOX
    assert any(f"<box>({x0},{y0}),({x1},{y1})</box>" in q.text for q in questions)
