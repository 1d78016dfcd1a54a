"""Scores against what came true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.evaluation.calibration import BINS, calibrate


def test_by_hand():
    found = calibrate([0.9, 0.9, 0.9, 0.1], [True, True, False, False])
    assert found.count == 4
    assert found.ece == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.1)
    assert found.brier == pytest.approx((0.01 + 0.01 + 0.81 + 0.01) / 4)
    assert [(b.low, b.count, b.share_true) for b in found.bins] == [
        (0.1, 1, 0.0),
        (0.9, 3, pytest.approx(2 / 3)),
    ]


@pytest.mark.parametrize(
    ("scores", "truths", "ece", "brier"),
    [
        pytest.param([1.0, 0.0], [True, False], 0, 0, id="sure-and-right"),
        pytest.param([1.0, 0.0], [False, True], 1, 1, id="sure-and-wrong"),
        pytest.param([0.5, 0.5], [True, False], 0, 0.25, id="a-coin"),
    ],
)
def test_the_ends_of_the_scale(scores, truths, ece, brier):
    found = calibrate(scores, truths)
    assert (found.ece, found.brier) == (pytest.approx(ece), pytest.approx(brier))


def test_honest_scores_are_calibrated():
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    found = calibrate(scores, rng.random(20_000) < scores)
    assert found.ece < 0.02
    assert found.brier == pytest.approx(1 / 6, abs=0.01)
    assert len(found.bins) == BINS


def test_nothing_to_calibrate_is_nothing():
    assert calibrate([], []) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_every_answer_is_in_one_bin(pairs):
    found = calibrate(*zip(*pairs, strict=True))
    assert sum(b.count for b in found.bins) == len(pairs)
    assert 0 <= found.ece <= 1
    assert all(b.low - 1e-9 <= b.mean_score <= b.high + 1e-9 for b in found.bins)
