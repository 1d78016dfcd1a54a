"""Values from counts, and intervals by drawing images again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.evaluation.scores import (
    Resampling,
    interval,
    mean_score,
    resampled_values,
    share_score,
    values_of,
)

RESAMPLING = Resampling(resamples=2000)


def draws(score, units, resampling=RESAMPLING, salt="VG ct"):
    return resampled_values([score], units, resampling, salt)[score.names[0]]


def test_a_share_is_the_sum_of_parts_over_the_sum_of_wholes():
    assert values_of([share_score("recall", [1, 3, 0], [2, 3, 5])]) == {"recall": 0.4}
    assert values_of([share_score("recall", [0], [0])]) == {"recall": 0.0}
    assert values_of([mean_score("ROUGE_L", [0.25, 0.75])]) == {"ROUGE_L": 0.5}


def test_an_interval_of_a_share_is_the_binomial_one():
    rng = np.random.default_rng(1)
    hits = rng.random(400) < 0.7
    score = mean_score("recall", hits)
    low, high = interval(draws(score, [str(i) for i in range(400)]), RESAMPLING)
    mean = hits.mean()
    width = 1.96 * np.sqrt(mean * (1 - mean) / 400)
    assert low == pytest.approx(mean - width, abs=0.008)
    assert high == pytest.approx(mean + width, abs=0.008)


def test_answers_to_one_image_are_drawn_together():
    hits = np.repeat(np.arange(20) % 2, 10)
    together = draws(mean_score("recall", hits), [str(i // 10) for i in range(200)])
    apart = draws(mean_score("recall", hits), [str(i) for i in range(200)])
    assert together.std() == pytest.approx(apart.std() * np.sqrt(10), rel=0.1)


def test_draws_hang_on_seed_and_set_alone():
    score, units = mean_score("recall", [0, 1, 1, 0, 1]), list("abcde")
    same = draws(score, units)
    assert np.array_equal(same, draws(score, units))
    assert not np.array_equal(same, draws(score, units, Resampling(resamples=2000, seed=1)))
    assert not np.array_equal(same, draws(score, units, salt="VG mr"))


def test_all_scores_see_the_same_draws():
    values = [0.0, 0.5, 1.0, 0.25]
    first, twice = mean_score("a", values), mean_score("b", [2 * v for v in values])
    found = resampled_values([first, twice], list("wxyz"), RESAMPLING, "RC ct")
    assert np.allclose(2 * found["a"], found["b"])


def test_one_image_tells_no_interval():
    assert interval(draws(mean_score("recall", [1, 0]), ["a", "a"]), RESAMPLING) is None


def test_memory_stays_bounded_by_drawing_in_parts(monkeypatch):
    score, units = mean_score("recall", [0, 1, 1, 0, 1]), list("abcde")
    monkeypatch.setattr(
        "bird_training.evaluation.scores._AT_ONCE", 12
    )  # two rows of five at a time
    small = draws(score, units)
    assert small.shape == (2000,)
    assert small.mean() == pytest.approx(0.6, abs=0.02)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=20))
def test_draws_lie_within_what_was_seen(pairs):
    parts, wholes = [p for p, _ in pairs], [p + w for p, w in pairs]
    units = [str(i) for i in range(len(pairs))]
    drawn = draws(share_score("recall", parts, wholes), units, Resampling(resamples=50))
    shares = [p / w for p, w in zip(parts, wholes, strict=True) if w] or [0]
    assert drawn.min() >= min([*shares, 0]) - 1e-12
    assert drawn.max() <= max(shares) + 1e-12
