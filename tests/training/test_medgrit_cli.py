"""`medgrit` as a user runs it: a model from a folder, numbers from a model, errors in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from bird_training.cli import app
from bird_training.commands.pretrain import TEST_FRACTION
from bird_training.sources.sa_med2d import read_sa_med2d
from bird_training.splits import split_by_case
from bird_training.twins import find_twins
from bird_vlm.engine import load_engine
from bird_vlm.running import Running


def medgrit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_line(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def a_run(a_folder_of_cases: Path, tmp_path_factory) -> Path:
    """Made by `medgrit pretrain`, in as few steps as there are stages."""
    run = tmp_path_factory.mktemp("run")
    options = ("--steps", 4, "--batch", 2, "--test-fraction", 0.1)
    result = medgrit("pretrain", a_folder_of_cases, run, *options)
    assert result.exit_code == 0, result.output
    assert str(run / "bird-mini") in result.stdout
    return run


@pytest.mark.slow
def test_a_model_is_made_and_measured_on_the_cases_that_it_has_not_seen(
    a_folder_of_cases: Path, a_run: Path, tmp_path: Path
):
    known = load_engine(a_run / "bird-mini", Running("cpu")).card.labels
    assert known["ct"] == ["left kidney", "liver", "right kidney"]

    built, answers, numbers = tmp_path / "built", tmp_path / "answers", tmp_path / "numbers.json"
    for arguments in (
        ("build", a_folder_of_cases, built, "--test-fraction", 0.1, "--no-sheet"),
        ("predict", "--data", built / "test", "--out", answers, "--model", a_run / "bird-mini"),
        ("evaluate", "--predictions", answers, "--json", numbers),
    ):
        result = medgrit(*arguments)
        assert result.exit_code == 0, result.output
    report = json.loads(numbers.read_text())
    assert {"VG", "ROC", "RC", "MIA"} <= set(report)
    assert set(report["VG"]["recall"]) == {"ct", "dermoscopy", "mr"}
    assert all(0 <= value <= 1 for value in report["VG"]["recall"].values())


@pytest.mark.slow
def test_a_finished_run_is_resumed_without_another_step(a_folder_of_cases: Path, a_run: Path):
    weights = (a_run / "bird-mini" / "model.safetensors").read_bytes()
    options = ("--steps", 4, "--batch", 2, "--test-fraction", 0.1, "--resume")
    result = medgrit("pretrain", a_folder_of_cases, a_run, *options)
    assert result.exit_code == 0, result.output
    assert (a_run / "bird-mini" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_a_used_folder_is_not_taken_for_another_run(a_folder_of_cases: Path, a_run: Path, tmp_path):
    options = ("--steps", 4, "--test-fraction", 0.1)
    weights = (a_run / "bird-mini" / "model.safetensors").read_bytes()
    again = medgrit("pretrain", a_folder_of_cases, a_run, *options, "--batch", 2)
    assert_one_line(again, "finished model")
    other_batch = medgrit("pretrain", a_folder_of_cases, a_run, *options, "--batch", 3, "--resume")
    assert_one_line(other_batch, "another batch")
    assert (a_run / "bird-mini" / "model.safetensors").read_bytes() == weights

    stopped = tmp_path / "stopped"
    shutil.copytree(a_run, stopped)
    shutil.rmtree(stopped / "bird-mini")
    (stopped / "checkpoints" / "both" / "done.safetensors").unlink()
    unfinished = medgrit("pretrain", a_folder_of_cases, stopped, *options, "--batch", 2)
    assert_one_line(unfinished, "--resume")
    goes_on = medgrit("pretrain", a_folder_of_cases, stopped, *options, "--batch", 2, "--resume")
    assert goes_on.exit_code == 0, goes_on.output
    assert (stopped / "bird-mini" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_training_goes_through_the_stages_that_are_named(
    a_folder_of_cases: Path, a_run: Path, tmp_path: Path
):
    start = a_run / "bird-mini"
    options = ("--start", start, "--stages", "speak", "--steps", 2, "--batch", 2)
    result = medgrit("pretrain", a_folder_of_cases, tmp_path, *options, "--test-fraction", 0.1)
    assert result.exit_code == 0, result.output
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["speak"]
    before, after = (
        load_file(folder / "model.safetensors") for folder in (start, tmp_path / "bird-mini")
    )
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any("language_model" in name for name in changed)
    assert not any("vision_tower" in name for name in changed)


@pytest.mark.shared
def test_build_and_pretrain_hold_out_the_same_cases(shared, tmp_path):
    source = shared / "data" / "sa_med2d_mini"
    result = medgrit("build", source, tmp_path, "--no-sheet")
    assert result.exit_code == 0, result.output
    records = read_sa_med2d(source)
    _, held_out = split_by_case(records, TEST_FRACTION, find_twins(records))
    facts = (tmp_path / "test" / "facts.jsonl").read_text().splitlines()
    built = {(fact["dataset"], fact["case"]) for fact in map(json.loads, facts)}
    assert built == {(record.dataset, record.case) for record in held_out}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            ("pretrain", "nowhere", "out"), ["nowhere", "missing"], id="pretrain-no-folder"
        ),
        pytest.param(
            ("pretrain", "nowhere", "out", "--stages", "see,hear"),
            ["stages: 'hear'", "see,speak,both"],
            id="pretrain-no-such-stage",
        ),
        pytest.param(("build", "nowhere", "out"), ["nowhere"], id="build-no-folder"),
        pytest.param(("train", "nowhere", "out"), ["nowhere"], id="train-no-folder"),
        pytest.param(
            ("predict", "--data", "nowhere", "--out", "out"), ["nowhere"], id="predict-no-folder"
        ),
        pytest.param(
            ("evaluate", "--predictions", "nowhere"), ["nowhere"], id="evaluate-no-folder"
        ),
        pytest.param(
            ("pretrain", "nowhere", "out", "--brain", "scan.nii.gz"),
            ["--brain", "--brain-labels", "go together"],
            id="brain-without-labels",
        ),
        pytest.param(
            *(
                ("pretrain", "nowhere", "out", "--brain", "a", "--brain-labels", "b"),
                ["go together"],
            ),
            id="brain-without-classes",
        ),
        pytest.param(
            ("pretrain", "x", "out", "--brain", "a", "--brain-labels", "b", "--brain-classes", "c"),
            ["c: missing"],
            id="classes-missing",
        ),
        pytest.param(
            ("evaluate", "--predictions", "x", "--json", "no/such/folder.json"),
            ["no such folder"],
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
    result = medgrit("pretrain", "nowhere", "out", *options)
    assert result.exit_code == 2
    assert name in result.stderr


@pytest.mark.parametrize(
    ("command", "example"),
    [
        pytest.param("build", "medgrit build SA-Med2D-20M/", id="build"),
        pytest.param("pretrain", "medgrit pretrain SA-Med2D-20M/ runs/mini", id="pretrain"),
        pytest.param("train", "medgrit train med-grit/train", id="train"),
        pytest.param("predict", "medgrit predict --data OUT/test", id="predict"),
        pytest.param("evaluate", "medgrit evaluate --predictions", id="evaluate"),
    ],
)
def test_help_shows_an_example(command, example):
    result = medgrit(command, "--help")
    assert result.exit_code == 0
    assert example in " ".join(result.stdout.split())
