"""Whether two findings of one question are the same object, seen twice.

Knows nothing about databases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from bird_server.review.records import Content
from bird_vlm.boxes import iou

SAME_OBJECT = 0.5  # mean overlap on the slices that both have, from which on two are one


def overlap(content: Content, other: Content) -> float:
    """Mean intersection over union of the boxes on the slices that both have; 0 without such."""
    boxes = {box.slice: box.box_pixel for box in other.boxes}
    shared = [iou(b.box_pixel, boxes[b.slice]) for b in content.boxes if b.slice in boxes]
    return float(np.mean(shared)) if shared else 0.0


def matches(proposals: Sequence[Content], known: Sequence[Sequence[Content]]) -> dict[int, int]:
    """Position in `proposals` -> position in `known`, one to one, best overlaps together.

    Each of `known` is a finding by all that it claimed: before and after people edited it.
    """
    table = np.array([[max(overlap(p, c) for c in claims) for claims in known] for p in proposals])
    if not table.size:
        return {}
    pairs = zip(*linear_sum_assignment(table, maximize=True), strict=True)
    return {int(p): int(k) for p, k in pairs if table[p, k] >= SAME_OBJECT}
