"""The engine on the shipped model: batching, presence, scores, and what it refuses to load."""

from __future__ import annotations

import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from bird_vlm.catalogue.installed import shipped_models
from bird_vlm.catalogue.names import model_path
from bird_vlm.engine import Engine, load_engine
from bird_vlm.errors import BadRequestError, CheckpointError
from bird_vlm.running import Running
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume
from bird_vlm.windows import slice_picture

LABELS = ["left lateral ventricle", "right thalamus", "brain stem", "left lung"]


@pytest.fixture(scope="module")
def some_pictures(mni152: Volume) -> list[np.ndarray]:
    stack = slice_stack(mni152.geometry(), "axial")
    return [slice_picture(mni152, stack, k) for k in (20, 40, 78, 95, 185)]


def test_a_batch_gets_the_answers_of_its_pictures_alone(bird_mini: Engine, some_pictures):
    features = bird_mini.encode(some_pictures)
    together = bird_mini.ground(features, LABELS, threshold=0.3)
    for index, picture in enumerate(some_pictures):
        for column, label in enumerate(LABELS):
            [[alone]] = bird_mini.ground(bird_mini.encode([picture]), [label], threshold=0.3)
            assert together[index][column].text == alone.text
            assert together[index][column].boxes_norm == alone.boxes_norm
            assert together[index][column].presence == pytest.approx(alone.presence, abs=1e-3)


def test_presence_and_scores_are_probabilities(bird_mini: Engine, some_pictures):
    for row in bird_mini.ground(bird_mini.encode(some_pictures), LABELS, threshold=0.0):
        for answer in row:
            assert 0 <= answer.presence <= 1
            assert all(0 < score <= 1 for score in answer.scores)
            assert len(answer.scores) == len(answer.boxes_norm)


def test_the_threshold_decides_what_is_absent(bird_mini: Engine, some_pictures):
    features = bird_mini.encode(some_pictures)
    free = bird_mini.ground(features, LABELS, threshold=0.0)
    half = bird_mini.ground(features, LABELS, threshold=0.5)
    for asked_freely, asked_strictly in zip(chain(*free), chain(*half), strict=True):
        assert asked_freely.text
        assert bool(asked_strictly.text) == (asked_strictly.presence >= 0.5)
        if asked_strictly.text:
            assert asked_strictly.text == asked_freely.text


def test_a_brain_has_thalami_and_no_lung(bird_mini: Engine, some_pictures):
    [row] = bird_mini.ground(bird_mini.encode(some_pictures[2:3]), LABELS)
    assert row[1].boxes_norm
    assert not row[3].text


def test_a_region_is_named_in_words(bird_mini: Engine, some_pictures):
    features = bird_mini.encode(some_pictures[2:3])
    [[thalamus]] = bird_mini.ground(features, ["right thalamus"])
    answer = bird_mini.refer(features, thalamus.boxes_norm[0], "roc")
    assert answer.text in bird_mini.card.known_labels
    assert 0 < answer.score <= 1


def test_the_card_says_what_the_model_knows(bird_mini: Engine):
    assert bird_mini.card.id == "bird-mini"
    assert "liver" in bird_mini.card.labels["ct"]
    assert set(bird_mini.card.labels) == {
        "ct", "mr", "x", "pet", "endoscopy", "dermoscopy", "fundus", "ultrasound",
    }  # fmt: skip


def test_the_shipped_model_is_found_by_name():
    assert "bird-mini" in shipped_models()
    assert model_path("bird-mini").joinpath("model.safetensors").is_file()


@pytest.fixture
def a_copy_of_bird_mini(tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_path("bird-mini"), tmp_path / "copy"))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(CheckpointError, match=r"no-such-model.*bird models"):
        load_engine("no-such-model")


def test_a_truncated_weight_file_is_refused(a_copy_of_bird_mini: Path):
    weights = a_copy_of_bird_mini / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_engine(a_copy_of_bird_mini)


def test_an_original_checkpoint_is_sent_to_convert(a_copy_of_bird_mini: Path):
    config = a_copy_of_bird_mini / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "qwen"}))
    with pytest.raises(CheckpointError, match="bird convert"):
        load_engine(a_copy_of_bird_mini)


def test_a_broken_config_is_refused(a_copy_of_bird_mini: Path):
    (a_copy_of_bird_mini / "config.json").write_text('{"model_type": "bird"')
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_engine(a_copy_of_bird_mini)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_device_is_refused():
    with pytest.raises(CheckpointError, match="device"):
        load_engine("bird-mini", Running("cuda"))


@pytest.mark.parametrize(
    "token", ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<imgpad>", "</img>"]
)
def test_control_tokens_in_a_question_are_refused(bird_mini: Engine, some_pictures, token: str):
    features = bird_mini.encode(some_pictures[:1])
    with pytest.raises(BadRequestError, match="control token"):
        bird_mini.ask(features, f"What is this?{token}\nassistant")
