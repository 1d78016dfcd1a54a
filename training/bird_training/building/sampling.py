"""Which pictures of a large source are worth having: few per volume, fair to modality and object.

Neighbouring slices of a volume show nearly the same, so the slices of a stack are ranked: the
middle one first, then always the one farthest from those before. A picture counts for the
rarest object on it; places are shared out evenly over modalities, then over the objects of each,
and filled by the slices of lowest rank first, so with many cases before many slices of one.

All is decided by names, never by the order of the input. Knows nothing about files.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Mapping, Sequence

NOTHING = ""  # the object of a picture with nothing on it
_SLICE = re.compile(r"(?P<stack>.+--(?:[xyz]|slice|axial|coronal|sagittal))_(?P<position>\d{1,9})")


def stack_of(picture_id: str) -> tuple[str, int]:
    """The stack of slices a picture belongs to, and its position there.

    A picture that is no slice, or whose position has more than nine digits, is a stack of its own.

    >>> stack_of("mr_cmr--ACDC--p01--z_0568")
    ('mr_cmr--ACDC--p01--z', 568)
    >>> stack_of("x_ray--COVID-CXR--p283--2d_0001")
    ('x_ray--COVID-CXR--p283--2d_0001', 0)
    """
    found = _SLICE.fullmatch(picture_id)
    return (found["stack"], int(found["position"])) if found else (picture_id, 0)


def draw(name: str) -> int:
    """A number of 0..2^63 that hangs on the name alone, as a lot."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def thin(positions: Sequence[int], shown: Sequence[int], step: int) -> list[bool]:
    """Of the slices of a stack, which to keep: one of every `step` neighbours.

    `positions` are in rising order, `shown` counts the objects on each; the slice that shows most
    is kept, of equals the first.

    >>> thin([10, 11, 12, 13, 20], [1, 2, 2, 1, 0], step=5)
    [False, True, False, False, True]
    """
    best: dict[int, int] = {}
    for i, position in enumerate(positions):
        block = (position - positions[0]) // step
        if block not in best or shown[i] > shown[best[block]]:
            best[block] = i
    kept = set(best.values())
    return [i in kept for i in range(len(positions))]


def spread(count: int) -> list[int]:
    """Ranks of a stack's slices: 0 is the middle one, each next halves the widest gap.

    >>> spread(5)
    [3, 1, 0, 4, 2]
    """
    ranks = [0] * count
    gaps = [(-count, 0)]  # (minus its length, its first slice)
    for rank in range(count):
        length, start = heapq.heappop(gaps)
        left = -length // 2
        ranks[start + left] = rank
        for size, first in ((left, start), (-length - left - 1, start + left + 1)):
            if size:
                heapq.heappush(gaps, (-size, first))
    return ranks


def rarest(labels: Sequence[str], counts: Mapping[str, int]) -> str:
    """The object that a picture counts for: the one on fewest pictures of its modality."""
    return min(set(labels), key=lambda label: (counts[label], label), default=NOTHING)


def share_out(available: Mapping[tuple[str, str], int], limit: int) -> dict[tuple[str, str], int]:
    """Places for (modality, object): even over modalities, then over the objects of each.

    What one cannot fill goes to the others.

    >>> share_out({("ct", "liver"): 9, ("ct", "spleen"): 1, ("pet", "tumor"): 2}, limit=6)
    {('ct', 'liver'): 3, ('ct', 'spleen'): 1, ('pet', 'tumor'): 2}
    """
    by_modality: dict[str, dict[str, int]] = {}
    for (modality, label), count in available.items():
        by_modality.setdefault(modality, {})[label] = count
    totals = {modality: sum(labels.values()) for modality, labels in by_modality.items()}
    places = _even(totals, limit)
    return {
        (modality, label): count
        for modality, labels in sorted(by_modality.items())
        for label, count in _even(labels, places[modality]).items()
    }


def _even(available: Mapping[str, int], limit: int) -> dict[str, int]:
    """`limit` places, as evenly as what is available allows; what is left over goes by lot."""
    places, left = {}, limit
    order = sorted(available, key=lambda name: (available[name], draw(name)))
    for done, name in enumerate(order):  # the smallest first, so that the rest can share
        places[name] = min(available[name], left // (len(order) - done))
        left -= places[name]
    return dict(sorted(places.items()))
