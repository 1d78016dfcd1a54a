"""Which cases of a build show nearly the same pictures, and so must stand on one side of a split.

The same rule as `twins.find_twins`, over the difference hashes that the workers left on disk:
memory holds 48 bytes per picture. Knows nothing about splits.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from bird_training import twins
from bird_training.building.shards import read_facts, read_signs
from bird_training.records import PictureRecord

Case = tuple[str, str]  # dataset, case
_TILE = 1024  # pictures compared at once with as many others


class CaseGroups:
    """Cases in groups that grow together."""

    def __init__(self) -> None:
        self.leader: dict[Case, Case] = {}

    def add(self, case: Case) -> None:
        self.leader.setdefault(case, case)

    def of(self, case: Case) -> Case:
        """The first case of the group."""
        while self.leader[case] != case:
            self.leader[case] = case = self.leader[self.leader[case]]
        return case

    def join(self, case: Case, other: Case) -> None:
        first, second = sorted((self.of(case), self.of(other)))
        self.leader[second] = first

    def joined(self) -> list[tuple[Case, Case]]:
        """Each case that is not alone or the first, with the first one of its group."""
        return sorted((case, self.of(case)) for case in self.leader if self.of(case) != case)


class _Pictures:
    """The pictures of one data set, by number, in little memory."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.signs = bytearray()
        self.shards, self.rows = array("i"), array("i")  # where their facts are

    def add(self, case: Case, signs: np.ndarray, shard: int, row: int) -> None:
        self.cases.append(case)
        self.signs += signs.tobytes()
        self.shards.append(shard)
        self.rows.append(row)


def group_cases(
    out: Path,
    work: Path,
    shards: int,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> CaseGroups:
    """All cases of the parts in `work`, those with nearly the same pictures joined."""
    groups = CaseGroups()
    datasets: dict[str, _Pictures] = defaultdict(_Pictures)
    cases: dict[Case, Case] = {}  # one object per case, however many pictures it has
    for shard in range(shards):
        hashed = zip(read_facts(work, shard), read_signs(work, shard), strict=True)
        for row, (facts, signs) in enumerate(hashed):
            case = (facts.dataset, facts.case)
            groups.add(case)
            datasets[case[0]].add(cases.setdefault(case, case), signs, shard, row)
    for done, (_, pictures) in enumerate(sorted(datasets.items())):
        show(done, len(datasets))
        _join_twins(pictures, groups, out, work)
    return groups


def _join_twins(pictures: _Pictures, groups: CaseGroups, out: Path, work: Path) -> None:
    @lru_cache(maxsize=64)
    def images(shard: int) -> list[Path]:
        return [out / facts.image for facts in read_facts(work, shard)]

    @lru_cache(maxsize=1024)
    def gradients(number: int) -> np.ndarray:
        image = images(pictures.shards[number])[pictures.rows[number]]
        dataset, case = pictures.cases[number]
        return twins.gradients_of(PictureRecord("", image, "", dataset, case, ()))

    packed = np.frombuffer(pictures.signs, np.uint8).reshape(len(pictures.cases), -1)
    for i, j in _close_pairs(packed):
        first, second = pictures.cases[i], pictures.cases[j]
        if groups.of(first) == groups.of(second):
            continue
        if float(gradients(i) @ gradients(j)) >= twins.MIN_CORRELATION:
            groups.join(first, second)


def _close_pairs(packed: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of pictures, as numbers, whose hashes (n, 32) differ in at most MAX_DISTANCE bits."""
    starts = range(0, len(packed), _TILE)
    for low in starts:
        rows = _as_signs(packed[low : low + _TILE])
        least_agreement = rows.shape[1] - 2 * twins.MAX_DISTANCE
        for high in starts[low // _TILE :]:
            close = rows @ _as_signs(packed[high : high + _TILE]).T >= least_agreement
            for i, j in np.argwhere(close):
                if low + i < high + j:
                    yield low + int(i), high + int(j)


def _as_signs(packed: np.ndarray) -> np.ndarray:
    """Bits -> -1 and 1, float32, so that a product counts how many agree."""
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
