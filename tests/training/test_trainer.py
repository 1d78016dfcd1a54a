"""A real training of a few steps: it learns, stops in time, goes on, and its folder answers."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bird_training.pretraining.answers import AnswerLoss
from bird_training.pretraining.dense import FINE, SeeingHeads, SeeingModel
from bird_training.pretraining.mini import save_mini
from bird_training.pretraining.pictures import PictureDataset
from bird_training.pretraining.trainer import (
    PretrainingModel,
    cosine,
    load_matching,
    source_weights,
    train,
)
from bird_vlm.engine import load_engine
from bird_vlm.errors import BirdError
from bird_vlm.running import Running
from small_world import TINY_GRID, a_record


@pytest.fixture(scope="session")
def a_training_set(many_records, a_vocabulary, a_processor) -> PictureDataset:
    return PictureDataset(
        many_records, a_vocabulary, a_processor, grid=FINE * TINY_GRID, turns=3, workers=0
    )


def state_of(out: Path) -> dict:
    """The trainer's state in the last checkpoint."""
    last = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())


def with_helpers(bird, dataset) -> PretrainingModel:
    heads = SeeingHeads(bird.config.vision_config, len(dataset.classes))
    return PretrainingModel(bird, heads, AnswerLoss(dataset.writer.tokenizer))


def a_run(bird, dataset, out: Path, **options) -> None:
    settings = {"batch": 4, "workers": 0, "learning_rate": 5e-3}
    train(with_helpers(bird, dataset), dataset, out, **(settings | options))


@torch.no_grad()
def loss_of(bird, dataset) -> float:
    """Of the answers, on pictures drawn by one seed."""
    torch.manual_seed(7)
    batch = dataset.collate([dataset[index] for index in range(12)])
    text = ("pixel_values", "input_ids", "labels", "position_ids", "attention_mask")
    return float(bird.eval()(**{name: batch[name] for name in text}).loss)


def test_a_training_learns_and_its_folder_answers(
    tmp_path, a_bird, a_training_set, a_processor, a_vocabulary
):
    before = loss_of(a_bird, a_training_set)
    a_run(a_bird, a_training_set, tmp_path / "run", steps=25)
    after = loss_of(a_bird, a_training_set)
    assert math.isfinite(after)
    assert after < 0.7 * before
    assert state_of(tmp_path / "run")["global_step"] == 25

    save_mini(a_bird, a_processor, a_vocabulary, tmp_path / "model")
    engine = load_engine(tmp_path / "model", Running("cpu"))
    assert engine.card.labels["ct"] == ["left kidney", "liver", "right kidney"]
    picture = np.full((48, 64), 90, np.uint8)
    features = engine.encode([picture, picture.T])
    answers = engine.ground(features, ["liver", "brain tumor"])
    assert [len(row) for row in answers] == [2, 2]
    assert all(0 <= answer.presence <= 1 for row in answers for answer in row)
    assert isinstance(engine.refer(features[:1], (1, 2, 300, 400), "roc").text, str)


def test_resuming_goes_on_from_the_last_checkpoint(tmp_path, a_bird, a_training_set):
    a_run(a_bird, a_training_set, tmp_path, steps=2)
    assert state_of(tmp_path)["global_step"] == 2
    first = {name: value.clone() for name, value in a_bird.state_dict().items()}
    with torch.no_grad():  # resuming must bring the trained weights back
        for parameter in a_bird.parameters():
            parameter.zero_()
    a_run(a_bird, a_training_set, tmp_path, steps=3, learning_rate=1e-9)
    assert state_of(tmp_path)["global_step"] == 3
    for name, value in a_bird.state_dict().items():
        torch.testing.assert_close(value, first[name], atol=1e-3, rtol=0)


def test_minutes_stop_a_training_and_it_is_saved(tmp_path, a_bird, a_training_set):
    started = time.monotonic()
    a_run(a_bird, a_training_set, tmp_path, steps=100_000, minutes=1 / 60)
    assert time.monotonic() - started < 60
    assert 0 < state_of(tmp_path)["global_step"] < 100_000


def test_a_resumed_training_has_only_the_rest_of_its_minutes(tmp_path, a_bird, a_training_set):
    a_run(a_bird, a_training_set, tmp_path, steps=100_000, minutes=1 / 60)
    stopped = state_of(tmp_path)
    assert stopped["stateful_callbacks"]["TimeLimit"]["attributes"]["used_before"] >= 1 / 60
    a_run(a_bird, a_training_set, tmp_path, steps=100_000, minutes=1 / 60)
    assert state_of(tmp_path)["global_step"] == stopped["global_step"] + 1


def test_the_vision_tower_learns_to_see_without_a_word(
    tmp_path, a_bird, many_records, a_vocabulary, a_processor
):
    dataset = PictureDataset(
        many_records, a_vocabulary, a_processor, grid=FINE * TINY_GRID, turns=0, workers=0
    )
    tower = a_bird.model.vision_tower
    model = SeeingModel(tower, SeeingHeads(a_bird.config.vision_config, len(dataset.classes)))
    spoken = {name: v.clone() for name, v in a_bird.model.language_model.state_dict().items()}
    torch.manual_seed(7)
    batch = dataset.collate([dataset[index] for index in range(12)])
    with torch.no_grad():
        before = float(model(**batch)["loss"])
    train(model, dataset, tmp_path, steps=25, batch=4, workers=0, learning_rate=5e-3)
    with torch.no_grad():
        assert float(model.eval()(**batch)["loss"]) < 0.8 * before
    for name, value in a_bird.model.language_model.state_dict().items():
        assert torch.equal(value, spoken[name]), name


def test_a_training_may_start_from_a_model_folder(a_bird, a_training_set):
    model = with_helpers(a_bird, a_training_set)
    state = {name: torch.full_like(value, 0.25) for name, value in a_bird.state_dict().items()}
    load_matching(model, state)
    assert all((value == 0.25).all() for value in a_bird.state_dict().values())


def test_a_start_of_which_nothing_fits_is_refused(a_bird, a_training_set):
    model = with_helpers(a_bird, a_training_set)
    with pytest.raises(BirdError, match="none of its tensors fits"):
        load_matching(model, {"other.weight": torch.zeros(3)})


def test_losses_are_finite_and_reach_every_part_of_the_model(a_bird, a_training_set):
    torch.manual_seed(0)
    model = with_helpers(a_bird, a_training_set)
    outputs = model(**a_training_set.collate([a_training_set[index] for index in range(6)]))
    parts = {name: float(value.detach()) for name, value in outputs.items()}
    assert all(math.isfinite(value) and value > 0 for value in parts.values())
    total = parts.pop("loss")
    assert total == pytest.approx(sum(parts.values()), rel=1e-4)
    outputs["loss"].backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unreached


@pytest.mark.parametrize(
    ("counts", "labels", "shares"),
    [
        pytest.param((100, 100), (1, 1), (0.5, 0.5), id="equal"),
        pytest.param((400, 100), (1, 1), (2 / 3, 1 / 3), id="root-of-pictures"),
        pytest.param((100, 100), (4, 1), (2 / 3, 1 / 3), id="root-of-objects"),
        pytest.param((100, 100), (1, 0), (0.5, 0.5), id="nothing-annotated"),
    ],
)
def test_sources_count_by_the_roots_of_their_pictures_and_objects(counts, labels, shares):
    records = [
        a_record(*(f"object {n}" for n in range(known)), dataset=dataset, case=str(case))
        for dataset, count, known in zip(("BTCV", "ACDC"), counts, labels, strict=True)
        for case in range(count)
    ]
    weights = source_weights(records)
    assert len(weights) == len(records)
    assert len(set(weights[: counts[0]])) == 1  # pictures of one source count the same
    first = sum(weights[: counts[0]])
    assert first / sum(weights) == pytest.approx(shares[0])


def test_many_slices_of_one_case_count_no_more_than_300():
    one_case = [a_record("liver", dataset="BTCV", case="p0", id=str(n)) for n in range(400)]
    as_many_cases = [a_record("liver", dataset="ACDC", case=str(n)) for n in range(300)]
    weights = source_weights(one_case + as_many_cases)
    assert sum(weights[:400]) == pytest.approx(sum(weights[400:]))


@pytest.mark.parametrize(
    ("done", "share"),
    [
        pytest.param(0.0, 1 / 30, id="start"),
        pytest.param(0.015, 0.5, id="half-warm"),
        pytest.param(0.03, 0.998, id="warm"),
        pytest.param(0.5, 0.51, id="half-way"),
        pytest.param(1.0, 0.02, id="end"),
        pytest.param(7.0, 0.02, id="overtime"),
    ],
)
def test_the_learning_rate_rises_and_falls(done, share):
    assert cosine(done) == pytest.approx(share, abs=2e-3)


@given(st.floats(0.03, 2), st.floats(0.03, 2))
def test_after_the_warm_up_the_learning_rate_only_falls(first, second):
    early, late = sorted((first, second))
    assert cosine(early) >= cosine(late) >= 0.02 - 1e-9
