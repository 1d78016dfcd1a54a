"""Splits by case: no patient on both sides, nor twins of a picture where they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from bird_training.records import PictureRecord

Twins = Iterable[tuple[PictureRecord, PictureRecord]]
Case = tuple[str, str]  # data set, case
_SALT = "held out"


class CaseGroups:
    """Cases in groups that grow together, each led by the first of its names."""

    def __init__(self, cases: Iterable[Case] = ()) -> None:
        self.leader: dict[Case, Case] = {case: case for case in cases}

    def __contains__(self, case: Case) -> bool:
        return case in self.leader

    def of(self, case: Case) -> Case:
        """The first case of the group."""
        while self.leader[case] != case:
            self.leader[case] = case = self.leader[self.leader[case]]
        return case

    def join(self, case: Case, other: Case) -> None:
        first, second = sorted((self.of(case), self.of(other)))
        self.leader[second] = first

    def held_out(self, fraction: float) -> set[Case]:
        """The cases of the test side, whole groups: of each data set `fraction` of its groups.

        A group of several data sets counts for that of its first case. At least one group of a data
        set is held out and at least one stays. The choice hangs on names alone.
        """
        by_dataset: dict[str, list[Case]] = {}
        for case in self.leader:
            if self.of(case) == case:
                by_dataset.setdefault(case[0], []).append(case)
        chosen = {
            case
            for leaders in by_dataset.values()
            for case in sorted(leaders, key=_rank)[: _count(len(leaders), fraction)]
        }
        return {case for case in self.leader if self.of(case) in chosen}


def split_by_case(
    records: Sequence[PictureRecord], test_fraction: float, twins: Twins = ()
) -> tuple[list[PictureRecord], list[PictureRecord]]:
    """(train, test): of each dataset's cases, `test_fraction` go to the test side.

    At least one case goes there, and at least one stays. Cases that `twins` join (see
    `twins.find_twins`) stay together; pairs with a picture that is not among `records` do not
    matter. The choice hangs on names alone, so it is the same on every machine, and a case of
    several modalities falls on one side.
    """
    groups = CaseGroups((r.dataset, r.case) for r in records)
    for one, other in twins:
        first, second = (one.dataset, one.case), (other.dataset, other.case)
        if first in groups and second in groups:
            groups.join(first, second)
    held_out = groups.held_out(test_fraction)
    sides: tuple[list[PictureRecord], list[PictureRecord]] = ([], [])
    for record in records:
        sides[(record.dataset, record.case) in held_out].append(record)
    return sides


def _count(groups: int, fraction: float) -> int:
    return min(max(1, round(fraction * groups)), groups - 1)


def _rank(case: Case) -> str:
    dataset, name = case
    return hashlib.sha256(f"{_SALT}/{dataset}/{name}".encode()).hexdigest()
