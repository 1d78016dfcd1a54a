"""Which case to look at next: the strategies by name, and the choice.

Knows nothing about HTTP, files or MONAI Label.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from cachetools import LRUCache

from bird_server.learning.case_score import CaseScore
from bird_server.learning.disagreement import disagreement
from bird_server.learning.missing import missing_organs
from bird_server.learning.uncertainty import uncertainty
from bird_server.review.lists import CaseSummary
from bird_server.review.records import CaseReport
from bird_server.review.store import ReviewStore
from bird_vlm.errors import BadRequestError

WAITING = "its findings wait for a review"  # where the strategy itself finds nothing


_SCORES_KEPT = 50_000  # of a store
_known: WeakKeyDictionary[ReviewStore, LRUCache] = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True)
class Strategy:
    """A way to tell how much there is to learn from a case."""

    description: str
    score: Callable[[CaseReport], CaseScore] | None  # None: by lot


@dataclass(frozen=True)
class Ranked:
    """A case and why it comes where it comes."""

    summary: CaseSummary
    score: CaseScore


STRATEGIES: Mapping[str, Strategy] = {
    "uncertainty": Strategy("Cases whose answers the model is least sure of first", uncertainty),
    "disagreement": Strategy(
        "Cases first whose boxes on neighbouring slices contradict each other", disagreement
    ),
    "missing-organ": Strategy(
        "Cases first that lack an organ whose neighbours were found", missing_organs
    ),
    "random": Strategy("Cases by lot: the yardstick for the others", None),
}


def strategy_named(name: str) -> Strategy:
    """Raises BadRequestError."""
    if name not in STRATEGIES:
        raise BadRequestError(
            f"strategy: must be one of {', '.join(STRATEGIES)}, got {name[:40]!r}"
        )
    return STRATEGIES[name]


def ranked(store: ReviewStore, name: str) -> list[Ranked]:
    """The cases with something to review, the most telling first, then the oldest.

    Something to review are findings that nobody has looked at, and what the strategy itself finds.
    Raises BadRequestError for an unknown strategy.
    """
    strategy_named(name)
    cases = [
        Ranked(summary, _score(store, name, summary))
        for summary in store.summaries()
        if summary.counts["proposed"] or summary.missing
    ]
    left = [case for case in cases if case.summary.counts["proposed"] or _is_open(case, name)]
    return sorted(left, key=lambda case: -case.score.score)


def _score(store: ReviewStore, name: str, summary: CaseSummary) -> CaseScore:
    """Reading a case takes milliseconds, and there may be thousands: what has not changed since is
    not read again."""
    score = STRATEGIES[name].score
    if score is None:
        return CaseScore(round(random.random(), 4), ("drawn by lot",))
    digest = summary.case.volume_digest
    key = (name, digest, summary.mark)
    with _lock:
        known = _known.setdefault(store, LRUCache(_SCORES_KEPT))
        if key in known:
            return known[key]
    found = score(store.report(digest, histories=False))
    found = found if found.reasons else CaseScore(0.0, (WAITING,))
    with _lock:
        known[key] = found
    return found


def _is_open(case: Ranked, name: str) -> bool:
    """Whether a case without open findings has an open absence."""
    return name == "missing-organ" and case.score.score > 0
