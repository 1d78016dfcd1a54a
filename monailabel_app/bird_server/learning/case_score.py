"""How much is to be learnt from looking at a case, and why. Knows nothing about how it is found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_REASONS = 5
_TELLING = 3  # a case is as telling as its three most telling findings, however many more it has


@dataclass(frozen=True)
class CaseScore:
    """What a strategy says of one case."""

    score: float = 0.0  # 0..1, 1 = look at it first
    reasons: tuple[str, ...] = ()  # the weightiest first


def scored(parts: Iterable[tuple[float, str]]) -> CaseScore:
    """A case from its parts, each with a score in 0..1 and a reason; parts of score 0 tell nothing.

    >>> scored([(0.2, "spleen"), (0.8, "liver")])
    CaseScore(score=0.5, reasons=('liver', 'spleen'))
    """
    telling = sorted((part for part in parts if part[0] > 0), key=lambda part: -part[0])
    if not telling:
        return CaseScore()
    best = [score for score, _ in telling[:_TELLING]]
    mean = sum(best) / len(best)
    return CaseScore(round(mean, 4), tuple(reason for _, reason in telling[:MOST_REASONS]))
