"""How much a model's answers on neighbouring slices contradict each other.

An organ changes little from one slice to the next: boxes that jump, and slices without a box
between two that have one, tell of a guess. Knows nothing about databases.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from bird_server.learning.case_score import CaseScore, scored
from bird_server.review.records import CaseReport, Content
from bird_vlm.boxes import iou


def disagreement(report: CaseReport) -> CaseScore:
    """Of the findings that nobody has reviewed, and of labels that fell into pieces."""
    return scored([*_jumps(report), *_pieces(report)])


def finding_disagreement(content: Content) -> float:
    """Mean over the steps from slice to slice: 1 - IoU of the two boxes, 1 for a missing one.

    0..1; 0 for a finding on one slice.
    """
    boxes = [box for box in content.boxes if box.asked]
    steps = [_step(a, b) for a, b in pairwise(boxes)]
    total = sum(cost for cost, _ in steps)
    count = sum(slices for _, slices in steps)
    return total / count if count else 0.0


def _step(one, other) -> tuple[float, int]:
    """What the way between two boxes costs, and how many slices it is long.

    Slices in between were asked and had no box, unless boxes were drawn between (coarse search).
    """
    gap = other.slice - one.slice
    return (1 - iou(one.box_pixel, other.box_pixel)) + (gap - 1), gap


def _jumps(report: CaseReport) -> Iterator[tuple[float, str]]:
    for found in report.findings:
        if found.status == "proposed":
            share = finding_disagreement(found.content)
            yield share, f"{found.content.label}: neighbouring boxes differ by {100 * share:.0f} %"


def _pieces(report: CaseReport) -> Iterator[tuple[float, str]]:
    """One question answered by several findings that share no slice: an object with holes."""
    questions: dict[tuple, list[Content]] = {}
    for found in report.findings:
        if found.status == "proposed":
            key = (found.prompt, found.plane, found.model)
            questions.setdefault(key, []).append(found.content)
    for (prompt, *_), contents in questions.items():
        ends = sorted(content.slices for content in contents)
        apart = sum(b[0] > a[1] for a, b in pairwise(ends))
        if apart:
            yield apart / (apart + 1), f"{prompt}: found in {apart + 1} places along the slices"
