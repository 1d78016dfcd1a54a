"""Every family the whole way of a test set: `medgrit train` where it is taught, predict, evaluate.

The models are tiny and their weights random, so their answers are measured, and none is good.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from asking import write_test_set
from bird_training.cli import app
from bird_training.tuning.families import FAMILY_PARTS
from bird_vlm.dialects import dialect_of
from bird_vlm.errors import GrammarError
from bird_vlm.grammar import format_absent, parse_grounding
from released_world import texts_of, write_released, write_tiny_model
from tiny_families import FAMILIES, save_tiny
from tiny_qwen import QWENS

TAUGHT = ("bird", *QWENS)
UNTAUGHT = tuple(family for family in FAMILIES if family not in TAUGHT)
PICTURES = 1
TASKS = ("VG", "ROC", "RC", "MIA")
SMALL = ("--recipe", "mini", "--batch", 4, "--tokens", 512, "--steps", 2, "--set", "workers=0")


@pytest.fixture(scope="module")
def a_train_folder(tmp_path_factory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"), pictures=2)


@pytest.fixture(scope="module")
def a_test_folder(tmp_path_factory) -> Path:
    return write_test_set(tmp_path_factory.mktemp("test") / "OUT", PICTURES)


def medgrit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def a_model(family: str, folder: Path, train: Path) -> Path:
    """Named as its family: a card of that name tells the dialect."""
    if family == "bird":
        return write_tiny_model(folder / family, texts_of(train))
    (folder / family).mkdir()
    return save_tiny(family, folder / family)


def is_place_or_complaint(response: str, family: str) -> bool:
    """An answer as the test set writes it; else what the model wrote, which its dialect refuses."""
    try:
        return response == format_absent("liver") or bool(parse_grounding(response))
    except GrammarError:
        with pytest.raises(GrammarError):
            dialect_of(family).parse(response, None, "liver")
        return True


def predicted_and_measured(model: Path, test: Path, out: Path) -> dict[str, list[dict]]:
    """Predictions by task; places and names are in the numbers of `medgrit evaluate`."""
    asked = medgrit("predict", "--data", test, "--out", out, "--model", model, "--device", "cpu")
    assert asked.exit_code == 0, asked.output
    rows = {task: rows_of(out, task) for task in TASKS}
    for task in ("RC", "MIA"):
        (out / f"{task}.jsonl").unlink()  # Java would measure their words for half a minute
    numbers = out / "numbers.json"
    measured = medgrit("evaluate", "--predictions", out, "--json", numbers, "--resamples", 0)
    assert measured.exit_code == 0, measured.output
    report = json.loads(numbers.read_text())
    for task in ("VG", "ROC"):
        assert set(report[task]["recall"]) == {"ct"}
    return rows


def rows_of(out: Path, task: str) -> list[dict]:
    return [json.loads(line) for line in (out / f"{task}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("family", TAUGHT)
def test_a_taught_family_is_trained_asked_and_measured(
    tmp_path, a_train_folder, a_test_folder, family
):
    start = a_model(family, tmp_path, a_train_folder)
    trained = medgrit("train", a_train_folder, tmp_path / "run", "--model", start, *SMALL)
    assert trained.exit_code == 0, trained.output
    folder = Path(trained.stdout.strip())
    rows = predicted_and_measured(folder, a_test_folder, tmp_path / "predictions")
    assert [len(of_task) for of_task in rows.values()] == [2 * PICTURES, *[PICTURES] * 3]
    assert all(0 <= row["score"] <= 1 for row in rows["VG"])


def test_what_a_model_cannot_be_asked_stops_it_or_is_listed(
    tmp_path, a_train_folder, a_test_folder
):
    model = a_model("radgrounder", tmp_path, a_train_folder)
    command = ("predict", "--data", a_test_folder, "--out", tmp_path / "out", "--model", model)
    stopped = medgrit(*command, "--device", "cpu")
    assert stopped.exit_code == 2
    assert "RadGrounder cannot be asked about a box" in " ".join(stopped.stderr.split())
    assert "--keep-failed without this answer" in " ".join(stopped.stderr.split())
    listed = medgrit(*command, "--device", "cpu", "--keep-failed")
    assert listed.exit_code == 0, listed.output
    assert f"{2 * PICTURES} of {5 * PICTURES} questions got no answer" in listed.stderr
    rows = {task: rows_of(tmp_path / "out", task) for task in TASKS}
    assert all("cannot be asked" in row["failed"] for t in ("ROC", "RC") for row in rows[t])
    assert not any(row.get("failed") for task in ("VG", "MIA") for row in rows[task])


@pytest.mark.parametrize("family", [f for f in UNTAUGHT if f != "radgrounder"])
def test_a_family_that_is_run_only_is_asked_and_measured(
    tmp_path, a_train_folder, a_test_folder, family
):
    model = a_model(family, tmp_path, a_train_folder)
    rows = predicted_and_measured(model, a_test_folder, tmp_path / "predictions")
    assert [len(of_task) for of_task in rows.values()] == [2 * PICTURES, *[PICTURES] * 3]
    assert all(is_place_or_complaint(row["response"], family) for row in rows["VG"])


@pytest.mark.parametrize("family", UNTAUGHT)
def test_a_family_that_is_run_only_is_not_trained(tmp_path, a_train_folder, family):
    model = a_model(family, tmp_path, a_train_folder)
    kind = json.loads((model / "config.json").read_text())["model_type"]
    result = medgrit("train", a_train_folder, tmp_path / "run", "--model", model, *SMALL)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert f"holds a {kind!r} model; fine-tuned can be {', '.join(FAMILY_PARTS)}" in line
    assert not (tmp_path / "run").exists()
