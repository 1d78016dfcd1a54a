"""Splits by case: no patient on both sides, nor twins of a picture where they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bird_training.records import PictureRecord

Twins = Iterable[tuple[PictureRecord, PictureRecord]]
_Case = tuple[str, str]  # dataset, case
_SALT = "held out"


def split_by_case(
    records: Sequence[PictureRecord], test_fraction: float, twins: Twins = ()
) -> tuple[list[PictureRecord], list[PictureRecord]]:
    """(train, test): of each dataset's cases, `test_fraction` go to the test side.

    At least one case goes there, and at least one stays. Cases that `twins` join (see
    `twins.find_twins`) stay together; pairs with a picture that is not among `records` do not
    matter. The choice hangs on names alone, so it is the same on every machine, and a case of
    several modalities falls on one side.
    """
    groups = _groups({(r.dataset, r.case) for r in records}, twins)
    held_out = {
        case
        for dataset in groups.values()
        for group in sorted(dataset, key=_rank)[: _count(len(dataset), test_fraction)]
        for case in group
    }
    sides: tuple[list[PictureRecord], list[PictureRecord]] = ([], [])
    for record in records:
        sides[(record.dataset, record.case) in held_out].append(record)
    return sides


def _count(groups: int, fraction: float) -> int:
    return min(max(1, round(fraction * groups)), groups - 1)


def _groups(cases: set[_Case], twins: Twins) -> dict[str, list[list[_Case]]]:
    """By dataset, the cases that must stay together."""
    ordered = sorted(cases)
    number = {case: i for i, case in enumerate(ordered)}
    pairs = [((a.dataset, a.case), (b.dataset, b.case)) for a, b in twins]
    edges = [(number[a], number[b]) for a, b in pairs if a in number and b in number]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    shape = (len(ordered), len(ordered))
    _, component = connected_components(
        coo_array(([1] * len(edges), (list(rows), list(columns))), shape=shape), directed=False
    )
    together: dict[int, list[_Case]] = {}
    for case, label in zip(ordered, component, strict=True):
        together.setdefault(int(label), []).append(case)
    by_dataset: dict[str, list[list[_Case]]] = {}
    for group in together.values():
        by_dataset.setdefault(group[0][0], []).append(group)
    return by_dataset


def _rank(group: list[_Case]) -> str:
    dataset, case = group[0]
    return hashlib.sha256(f"{_SALT}/{dataset}/{case}".encode()).hexdigest()
