"""What reviewers have settled about a case: where each label is, and where it certainly is not.

Accepted and edited findings say where a label is. Where all findings of a label in a plane are
reviewed and some stand, the other slices of that plane do not show it; rejected boxes alone tell
nothing of where the label is. Knows nothing about pictures or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bird_server.review.records import CaseReport, ReviewedFinding
from bird_vlm.boxes import iou
from bird_vlm.contract import BoxPixel, Plane
from bird_vlm.labels import natural_name, without_side

STANDING = ("accepted", "edited")
_SAME_BOX = 0.7  # overlap from which on two boxes of one label on one slice are one object


@dataclass(frozen=True)
class Truth:
    """One label in one plane of a case."""

    label: str  # natural name; without a side on sagittal slices, which do not tell it
    plane: Plane
    boxes: dict[int, tuple[BoxPixel, ...]]  # by slice
    tells_absence: bool  # whether the label is on no slice that has no box
    window: tuple[float, float] | None  # (level, width) that the model saw


def truths(report: CaseReport) -> list[Truth]:
    """By plane and label, in the order of the findings."""
    groups: dict[tuple[Plane, str], list[ReviewedFinding]] = {}
    for found in report.findings:
        groups.setdefault((found.plane, _said(found)), []).append(found)
    made = [_truth(plane, label, found) for (plane, label), found in groups.items()]
    return [truth for truth in made if truth.boxes]


def _said(found: ReviewedFinding) -> str:
    name = natural_name(found.content.label)
    return without_side(name) if found.plane == "sagittal" else name


def _truth(plane: Plane, label: str, findings: Sequence[ReviewedFinding]) -> Truth:
    standing = sorted((f for f in findings if f.status in STANDING), key=lambda f: f.time)
    one_sided = plane == "sagittal" and any(
        natural_name(found.content.label) != label for found in findings
    )
    settled = all(found.status != "proposed" for found in findings)
    windows = [found.window for found in standing if found.window is not None]
    return Truth(label, plane, _boxes(standing), settled and not one_sided, (windows or [None])[-1])


def _boxes(standing: Iterable[ReviewedFinding]) -> dict[int, tuple[BoxPixel, ...]]:
    """Of all findings; where two show the same object, as reviewed last."""
    by_slice: dict[int, list[BoxPixel]] = {}
    for found in standing:
        for box in found.content.boxes:
            kept = by_slice.setdefault(box.slice, [])
            kept[:] = [other for other in kept if iou(other, box.box_pixel) < _SAME_BOX]
            kept.append(box.box_pixel)
    return {index: tuple(boxes) for index, boxes in sorted(by_slice.items())}
