"""Whether scores are probabilities: of all answers with a score of 0.8, are 80 % right?

Knows nothing about tasks or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Answers whose scores lie in one tenth of 0..1."""

    low: float
    high: float
    count: int
    mean_score: float
    share_true: float


@dataclass(frozen=True)
class Calibration:
    """How scores relate to what came true."""

    count: int
    ece: float  # expected calibration error: mean gap between score and truth over the bins, 0..1
    brier: float  # mean squared distance of score and truth, 0..1
    bins: tuple[Bin, ...]  # those that hold an answer

    def report(self) -> dict:
        """As JSON."""
        return asdict(self) | {"bins": [asdict(one) for one in self.bins]}


def calibrate(scores: Sequence[float], truths: Sequence[bool]) -> Calibration | None:
    """Calibration of `scores` (0..1) against what was true; None where there are none."""
    if not len(scores):
        return None
    score, truth = np.asarray(scores, float), np.asarray(truths, float)
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    bins = tuple(_bin(n, score[place == n], truth[place == n]) for n in np.unique(place).tolist())
    gaps = [one.count * abs(one.mean_score - one.share_true) for one in bins]
    return Calibration(
        len(score), float(sum(gaps) / len(score)), float(np.mean((score - truth) ** 2)), bins
    )


def _bin(number: int, score: np.ndarray, truth: np.ndarray) -> Bin:
    return Bin(
        number / BINS, (number + 1) / BINS, len(score), float(score.mean()), float(truth.mean())
    )
