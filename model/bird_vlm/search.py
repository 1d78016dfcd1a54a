"""Which slices to ask about which question: all of them, or a few and then where it matters.

A search hands out rounds of slices and is told the answers. Knows indices and boxes; knows nothing
about volumes or models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from bird_vlm.boxes import BoxNorm

COARSE_STEP_MM = 9.0  # between the first slices; thinner objects may be missed
_SHARE = 1 / 3  # of the slices, which a question may be asked about at most

Round = dict[int, list[int]]  # question -> slices, in the order in which to ask
Boxes = tuple[BoxNorm, ...]
Gap = tuple[int, int]  # two slices that were asked, none between them was


class Search(Protocol):
    """A way through a stack of slices."""

    def rounds(self) -> Iterator[Round]:
        """What to ask next; the answers of one round are told before the next is taken."""

    def tell(self, question: int, index: int, boxes: Boxes) -> None:
        """The boxes that a slice has for a question; none where the object is absent."""


class Exhaustive:
    """Every slice for every question."""

    def __init__(self, indices: Sequence[int], questions: int) -> None:
        self.indices, self.questions = indices, questions

    def rounds(self) -> Iterator[Round]:
        yield {question: list(self.indices) for question in range(self.questions)}

    def tell(self, question: int, index: int, boxes: Boxes) -> None:
        """Nothing depends on it."""


class CoarseToFine:
    """Some slices, then the ends of what they show, then where it is widest, then the rest of it.

    No question is asked about more than a third of the slices, but for the first round; what is
    absent from the first round costs nothing more.
    """

    def __init__(self, indices: Sequence[int], questions: int, spacing_mm: float) -> None:
        """`indices` are in the order in which to ask; together they are a range without gaps."""
        self.order = {index: place for place, index in enumerate(indices)}
        self.first, self.last = min(indices), max(indices)
        self.step = max(1, int(COARSE_STEP_MM / spacing_mm))
        self.most = max(1, int(_SHARE * len(indices)))
        self.told: list[dict[int, Boxes]] = [{} for _ in range(questions)]

    def rounds(self) -> Iterator[Round]:
        middle = (self.last - self.first) % self.step // 2  # as far from both ends
        coarse = range(self.first + middle, self.last + 1, self.step)
        pending = {question: self._ordered(coarse) for question in range(len(self.told))}
        while any(pending.values()):
            yield {question: indices for question, indices in pending.items() if indices}
            pending = {question: self._between(told) for question, told in enumerate(self.told)}

    def tell(self, question: int, index: int, boxes: Boxes) -> None:
        self.told[question][index] = boxes

    def _between(self, told: Mapping[int, Boxes]) -> list[int]:
        """The slices half-way between neighbours that differ, or else between those that show it.

        The widest gaps first; of those inside an object, the ones beside its extreme boxes, which
        make its size in 3D, or else the widest alone.
        """
        known = {self.first - 1: (), **dict(sorted(told.items())), self.last + 1: ()}
        gaps = [(low, high) for low, high in pairwise(known) if high - low > 1]
        ends = [gap for gap in gaps if len(known[gap[0]]) != len(known[gap[1]])]
        inside = [gap for gap in gaps if known[gap[0]] and known[gap[1]]]
        chosen = ends or _beside(extreme_slices(told), inside) or _widest(inside)
        chosen.sort(key=lambda gap: gap[0] - gap[1])
        left = max(0, self.most - len(told))
        return self._ordered((low + high) // 2 for low, high in chosen[:left])

    def _ordered(self, indices: Iterable[int]) -> list[int]:
        return sorted(indices, key=self.order.__getitem__)


def extreme_slices(told: Mapping[int, Boxes]) -> set[int]:
    """The slices whose boxes reach furthest to the left, the top, the right and the bottom.

    >>> sorted(extreme_slices({3: ((5, 5, 9, 9),), 4: ((4, 5, 9, 8),), 5: ()}))
    [3, 4]
    """
    placed = [(box, index) for index, boxes in told.items() for box in boxes]
    if not placed:
        return set()
    furthest = ((0, min), (1, min), (2, max), (3, max))
    return {pick((box[edge], index) for box, index in placed)[1] for edge, pick in furthest}


def _beside(slices: Collection[int], gaps: Iterable[Gap]) -> list[Gap]:
    return [gap for gap in gaps if gap[0] in slices or gap[1] in slices]


def _widest(gaps: Sequence[Gap]) -> list[Gap]:
    most = max((high - low for low, high in gaps), default=0)
    return [(low, high) for low, high in gaps if high - low == most]
