"""`medgrit` as a user runs it: a model from a folder, numbers from a model, errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bird_training.cli import app
from bird_vlm.engine import Engine


def medgrit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_line(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.slow
def test_a_model_is_trained_and_measured(a_folder_of_cases: Path, tmp_path: Path):
    run = tmp_path / "run"
    split = ("--test-fraction", 0.1)
    result = medgrit("train", a_folder_of_cases, run, "--steps", 1, "--batch", 2, *split)
    assert result.exit_code == 0, result.output
    assert str(run / "bird-mini") in result.stdout
    known = Engine.load(run / "bird-mini", "cpu").card.labels
    assert known["ct"] == ["left kidney", "liver", "right kidney"]

    numbers = tmp_path / "numbers.json"
    result = medgrit(
        "validate", a_folder_of_cases, "--model", run / "bird-mini", "--json", numbers, *split
    )
    assert result.exit_code == 0, result.output
    assert "3 held-out pictures" in result.stdout  # one of eight cases of each data set
    tallies = json.loads(numbers.read_text())
    assert {"ct", "dermoscopy", "mr"} <= set(tallies)
    assert tallies["ct"]["targets"] == 3
    assert tallies["mr"]["targets"] == 3
    assert all(0 <= tallies[name]["recall"] <= 1 for name in ("ct", "dermoscopy", "mr"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("train", "nowhere", "out"), ["nowhere", "missing"], id="train-no-folder"),
        pytest.param(("validate", "nowhere"), ["nowhere", "missing"], id="validate-no-folder"),
        pytest.param(
            ("train", "nowhere", "out", "--brain", "scan.nii.gz"),
            ["--brain", "--brain-labels", "go together"],
            id="brain-without-labels",
        ),
        pytest.param(
            *(("train", "nowhere", "out", "--brain", "a", "--brain-labels", "b"), ["go together"]),
            id="brain-without-classes",
        ),
        pytest.param(
            ("train", "x", "out", "--brain", "a", "--brain-labels", "b", "--brain-classes", "c"),
            ["c: is not a JSON object"],
            id="classes-missing",
        ),
        pytest.param(
            *(("validate", "nowhere", "--json", "no/such/folder.json"), ["no such folder"]),
            id="json-nowhere",
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(
    arguments, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert_one_line(medgrit(*arguments), *words)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_none_is_refused(a_folder_of_cases):
    assert_one_line(medgrit("validate", a_folder_of_cases, "--model", "gpt"), "gpt", "neither")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param(("--test-fraction", "1.5"), "--test-fraction", id="fraction"),
        pytest.param(("--batch", "0"), "--batch", id="batch"),
        pytest.param(("--steps", "-3"), "--steps", id="steps"),
        pytest.param(("--minutes", "0"), "--minutes", id="minutes"),
    ],
)
def test_numbers_out_of_range_are_refused(options, name):
    result = medgrit("train", "nowhere", "out", *options)
    assert result.exit_code == 2
    assert name in result.stderr


@pytest.mark.parametrize(
    ("command", "example"),
    [
        pytest.param("train", "medgrit train SA-Med2D-20M/ runs/mini", id="train"),
        pytest.param("validate", "medgrit validate SA-Med2D-20M/", id="validate"),
    ],
)
def test_help_shows_an_example(command, example):
    result = medgrit(command, "--help")
    assert result.exit_code == 0
    assert example in " ".join(result.stdout.split())
