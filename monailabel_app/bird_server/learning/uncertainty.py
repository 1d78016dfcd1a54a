"""How unsure a model was of its own answers: the entropy of its scores.

A score is the probability that the box is right: presence times the confidence in its numbers. At
0.5 an answer tells nothing, at 0 and 1 the model is sure. Knows nothing about databases.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bird_server.learning.case_score import CaseScore, scored
from bird_server.review.records import CaseReport, Content


def uncertainty(report: CaseReport) -> CaseScore:
    """Of the findings that nobody has reviewed."""
    return scored(_parts(report))


def entropy(probability: np.ndarray | float) -> np.ndarray | float:
    """Of a yes or no, in bits: 0..1. Shannon 1948, section 6.

    >>> entropy(0.5), entropy(1.0)
    (1.0, 0.0)
    """
    p = np.clip(np.asarray(probability, float), 0.0, 1.0)
    safe = np.where((p > 0) & (p < 1), p, 0.5)
    bits = -safe * np.log2(safe) - (1 - safe) * np.log2(1 - safe)
    found = np.where((p > 0) & (p < 1), bits, 0.0)
    return found if found.ndim else float(found)


def finding_uncertainty(content: Content) -> float:
    """The larger of the finding's own entropy and the mean over its boxes, 0..1."""
    boxes = np.array([box.score for box in content.boxes if box.asked])
    of_boxes = float(np.mean(entropy(boxes))) if boxes.size else 0.0
    return max(entropy(content.score), of_boxes)


def _parts(report: CaseReport) -> Iterator[tuple[float, str]]:
    for found in report.findings:
        if found.status == "proposed":
            content = found.content
            first, last = content.slices
            reason = f"{content.label}: score {content.score:.2f} on slices {first} to {last}"
            yield finding_uncertainty(content), reason
