"""Splits by case: no patient on both sides."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from bird_training.records import PictureRecord


def split_by_case(
    records: Sequence[PictureRecord], test_fraction: float
) -> tuple[list[PictureRecord], list[PictureRecord]]:
    """(train, test): of each dataset's cases, `test_fraction` (at least one) go to the test side.

    The choice hangs on the cases' names alone, so it is the same on every machine, and a case of
    several modalities falls on one side.
    """
    cases: dict[str, set[str]] = {}
    for record in records:
        cases.setdefault(record.dataset, set()).add(record.case)
    held_out = {
        (dataset, case)
        for dataset, names in cases.items()
        for case in sorted(names, key=lambda name: _rank(dataset, name))[
            : math.ceil(test_fraction * len(names))
        ]
    }
    sides = ([], [])
    for record in records:
        sides[(record.dataset, record.case) in held_out].append(record)
    return sides


def _rank(dataset: str, case: str) -> str:
    return hashlib.sha256(f"{dataset}/{case}".encode()).hexdigest()
