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

from bird_training.finetune import PretrainingModel, cosine, load_matching, source_weights, train
from bird_training.mini import save_mini
from bird_training.pictures import PictureDataset
from bird_vlm.engine import Engine
from bird_vlm.errors import BirdError
from small_world import TINY_GRID, a_record


@pytest.fixture(scope="session")
def a_training_set(many_records, a_vocabulary, a_processor) -> PictureDataset:
    return PictureDataset(
        many_records, a_vocabulary, a_processor, grid=TINY_GRID, turns=3, workers=0
    )


def state_of(out: Path) -> dict:
    """The trainer's state in the last checkpoint."""
    last = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())


def a_run(bird, dataset, out: Path, **options):
    settings = {"batch": 4, "workers": 0, "learning_rate": 5e-3}
    return train(bird, dataset, out, **(settings | options))


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
    trained = a_run(a_bird, a_training_set, tmp_path / "run", steps=25)
    assert trained is a_bird
    after = loss_of(a_bird, a_training_set)
    assert math.isfinite(after)
    assert after < 0.7 * before
    assert state_of(tmp_path / "run")["global_step"] == 25

    save_mini(a_bird, a_processor, a_vocabulary, tmp_path / "model")
    engine = Engine.load(tmp_path / "model", "cpu")
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
    a_run(a_bird, a_training_set, tmp_path, steps=3, resume=True, learning_rate=1e-9)
    assert state_of(tmp_path)["global_step"] == 3
    for name, value in a_bird.state_dict().items():
        torch.testing.assert_close(value, first[name], atol=1e-3, rtol=0)


def test_resuming_without_a_checkpoint_is_refused(tmp_path, a_bird, a_training_set):
    with pytest.raises(BirdError, match="checkpoint"):
        a_run(a_bird, a_training_set, tmp_path / "new", steps=2, resume=True)


def test_minutes_stop_a_training_and_it_is_saved(tmp_path, a_bird, a_training_set):
    started = time.monotonic()
    a_run(a_bird, a_training_set, tmp_path, steps=100_000, minutes=1 / 60)
    assert time.monotonic() - started < 60
    assert 0 < state_of(tmp_path)["global_step"] < 100_000


def test_a_training_may_start_from_the_tensors_of_another(tmp_path, a_bird, a_training_set):
    a_run(a_bird, a_training_set, tmp_path / "first", steps=2)
    trained = {name: value.clone() for name, value in a_bird.state_dict().items()}
    with torch.no_grad():
        for parameter in a_bird.parameters():
            parameter.zero_()
    start = tmp_path / "first" / "checkpoint-2"
    a_run(a_bird, a_training_set, tmp_path / "second", steps=1, start=start, learning_rate=1e-9)
    assert state_of(tmp_path / "second")["global_step"] == 1
    for name, value in a_bird.state_dict().items():
        torch.testing.assert_close(value, trained[name], atol=1e-5, rtol=0)


def test_a_start_without_tensors_is_refused(tmp_path, a_bird, a_training_set):
    with pytest.raises(BirdError, match="nowhere"):
        a_run(a_bird, a_training_set, tmp_path / "run", steps=1, start=tmp_path / "nowhere")


def test_a_training_may_start_from_a_model_folder(a_bird, a_training_set):
    model = PretrainingModel(a_bird, len(a_training_set.classes))
    state = {name: torch.full_like(value, 0.25) for name, value in a_bird.state_dict().items()}
    load_matching(model, state)
    assert all((value == 0.25).all() for value in a_bird.state_dict().values())


def test_a_start_of_which_nothing_fits_is_refused(a_bird, a_training_set):
    model = PretrainingModel(a_bird, len(a_training_set.classes))
    with pytest.raises(BirdError, match="none of its tensors fits"):
        load_matching(model, {"other.weight": torch.zeros(3)})


def test_losses_are_finite_and_reach_every_part_of_the_model(a_bird, a_training_set):
    torch.manual_seed(0)
    model = PretrainingModel(a_bird, len(a_training_set.classes))
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
        pytest.param((2400, 600), (1, 1), (0.5, 0.5), id="no-more-beyond-600"),
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
