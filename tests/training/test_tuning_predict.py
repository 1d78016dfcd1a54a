"""A fine-tuned Qwen3-VL has learnt what it was taught: asked through its engine, and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bird_training.evaluation.answering_seam import SeamAnswerer
from bird_training.evaluation.evaluate import evaluate
from bird_training.evaluation.predict import predict
from bird_training.evaluation.predictions import read_predictions
from bird_training.evaluation.questions import read_test_set
from bird_training.tuning.tuning import tune
from bird_vlm.errors import BirdError
from bird_vlm.running import Running
from released_world import write_released
from tiny_qwen import quick, save_tiny


@pytest.fixture(scope="module")
def a_data_folder(tmp_path_factory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"), pictures=1)


@pytest.fixture(scope="module")
def an_answerer(tmp_path_factory, a_data_folder) -> SeamAnswerer:
    """A tiny model that was trained on one picture until it knows it by heart."""
    folder = tmp_path_factory.mktemp("tuned")
    model = save_tiny("qwen3-vl", folder / "start")
    recipe = quick("mini", steps=50, learning_rate=5e-3, batch=2)
    outcome = tune(a_data_folder, folder / "run", str(model), recipe)
    return SeamAnswerer(str(outcome.folder), Running("cpu"))


def test_what_was_learnt_is_answered_and_measured(tmp_path, an_answerer, a_data_folder):
    asked = read_test_set(a_data_folder)
    assert predict(asked, an_answerer, tmp_path, "train") == 0
    rows = {
        task: [json.loads(line) for line in (tmp_path / f"{task}.jsonl").read_text().splitlines()]
        for task in ("VG", "ROC", "MIA")
    }
    there, absent = rows["VG"]
    assert there["response"] == "<ref>liver</ref><box>(100,120),(400,511)</box>"
    assert there["score"] > 0.9
    assert absent["response"] == "The heart is not present in the image."
    assert absent["score"] < 0.1
    assert rows["ROC"][0]["response"] == "liver"
    kind, place, rest = (row["response"] for row in rows["MIA"])
    assert kind == "A CT image."
    assert place == there["response"]  # asked like any other place
    assert rest
    read = read_predictions(tmp_path)
    report = evaluate({task: read[task] for task in ("VG", "ROC")})
    assert report["VG"]["recall"] == report["ROC"]["recall"] == {"ct": 1.0}


def test_a_place_without_a_name_cannot_be_asked_for(an_answerer, a_data_folder):
    (question, *_) = read_test_set(a_data_folder)
    nameless = replace(question, text="Where is it?")
    with pytest.raises(BirdError, match="ct_case00_z_0: question: 'Where is it"):
        list(an_answerer.answer([[nameless]]))
