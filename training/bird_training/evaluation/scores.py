"""A measure over a set of answers, kept as counts from which it can be computed again.

Every measure here depends on its answers only through sums of counts: the value of any resampling
of the answers is a matrix product away. Knows nothing about tasks, texts or boxes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Unit = Literal["image", "case"]
# Summed counts (..., counts) -> values (..., values).
FromCounts = Callable[[np.ndarray], np.ndarray]
_AT_ONCE = 4_000_000  # drawn numbers in memory


@dataclass(frozen=True)
class Score:
    """Values of one scorer over a set of answers."""

    names: tuple[str, ...]  # e.g. ("Bleu_1", ..., "Bleu_4")
    values: tuple[float, ...]
    counts: np.ndarray  # (answers, counts)
    from_counts: FromCounts


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: percentile bootstrap over images or cases."""

    by: Unit = "image"
    resamples: int = 1000  # 0 for no intervals
    seed: int = 0
    level: float = 0.95


def share_score(name: str, parts: Sequence[float], wholes: Sequence[float]) -> Score:
    """The sum of `parts` over the sum of `wholes`, one pair per answer."""
    counts = np.stack([np.asarray(parts, float), np.asarray(wholes, float)], axis=1)
    return Score((name,), (float(share_of_counts(counts.sum(0))[0]),), counts, share_of_counts)


def mean_score(name: str, values: Sequence[float]) -> Score:
    """The mean of one value per answer."""
    return share_score(name, values, np.ones(len(values)))


def share_of_counts(counts: np.ndarray) -> np.ndarray:
    """(..., 2) -> (..., 1); 0 where there is nothing to share."""
    return divided(counts[..., :1], counts[..., 1:2])


def divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


def values_of(scores: Sequence[Score]) -> dict[str, float]:
    """All values by name."""
    return {n: float(v) for score in scores for n, v in zip(score.names, score.values, strict=True)}


def resampled_values(
    scores: Sequence[Score], units: Sequence[str], resampling: Resampling, salt: str
) -> dict[str, np.ndarray]:
    """Every value over draws of the units with replacement: (resamples,) by name.

    `units` names the image or case of each answer; all scores see the same draws. `salt` makes the
    draws of different sets independent of each other and of their order. With fewer than two units
    nothing can be said: the values are NaN.
    """
    counts = np.concatenate([score.counts for score in scores], axis=1)
    sums = _resampled_sums(counts, units, resampling, salt)
    parts = np.split(sums, np.cumsum([score.counts.shape[1] for score in scores])[:-1], axis=1)
    return {
        name: column
        for score, part in zip(scores, parts, strict=True)
        for name, column in zip(score.names, score.from_counts(part).T, strict=True)
    }


def interval(values: np.ndarray, resampling: Resampling) -> list[float] | None:
    """[low, high] of (resamples,) values; None where they are unknown."""
    if not values.size or np.isnan(values).any():
        return None
    tail = (1 - resampling.level) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]


def _resampled_sums(
    counts: np.ndarray, units: Sequence[str], resampling: Resampling, salt: str
) -> np.ndarray:
    """(answers, counts) -> (resamples, counts)."""
    names, index = np.unique(np.asarray(units), return_inverse=True)
    if len(names) < 2:
        return np.full((resampling.resamples, counts.shape[1]), np.nan)
    by_unit = np.zeros((len(names), counts.shape[1]))
    np.add.at(by_unit, index, counts)
    rng = np.random.default_rng([resampling.seed, zlib.crc32(salt.encode())])
    sums = np.empty((resampling.resamples, counts.shape[1]))
    step = max(_AT_ONCE // len(names), 1)
    for start in range(0, resampling.resamples, step):
        rows = sums[start : start + step]
        rows[:] = rng.multinomial(len(names), [1 / len(names)] * len(names), len(rows)) @ by_unit
    return sums
