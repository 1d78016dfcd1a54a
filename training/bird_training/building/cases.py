"""Which cases of a build show nearly the same pictures, and so must stand on one side of a split.

Over all data sets of the build, by the difference hashes that the workers left on disk: memory
holds 48 bytes per picture. Knows nothing about how pictures are compared, or about splits.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from bird_training.building.shards import read_facts, read_signs
from bird_training.splits import Case, CaseGroups
from bird_training.twins import twin_pairs


class _Pictures:
    """All pictures of a build, by number, in little memory."""

    def __init__(self, work: Path, shards: int) -> None:
        self.cases: list[Case] = []
        self.shards, self.rows = array("i"), array("i")  # where their facts are
        known: dict[Case, Case] = {}  # one object per case, however many pictures it has
        signs = []
        for shard in range(shards):
            for row, facts in enumerate(read_facts(work, shard)):
                case = (facts.dataset, facts.case)
                self.cases.append(known.setdefault(case, case))
                self.shards.append(shard)
                self.rows.append(row)
            signs.append(read_signs(work, shard))
        self.signs = np.concatenate(signs)


def group_cases(
    out: Path,
    work: Path,
    shards: int,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> CaseGroups:
    """All cases of the parts in `work`, those with nearly the same pictures joined."""
    pictures = _Pictures(work, shards)
    groups, cases = CaseGroups(pictures.cases), pictures.cases

    @lru_cache(maxsize=64)
    def images(shard: int) -> list[Path]:
        return [out / facts.image for facts in read_facts(work, shard)]

    def image_of(number: int) -> Path:
        return images(pictures.shards[number])[pictures.rows[number]]

    def are_apart(i: int, j: int) -> bool:
        return groups.of(cases[i]) != groups.of(cases[j])

    for i, j in twin_pairs(pictures.signs, image_of, are_apart, show):
        groups.join(cases[i], cases[j])
    return groups
