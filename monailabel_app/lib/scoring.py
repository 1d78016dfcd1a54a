"""What reviewers made of the models' answers, version by version: MONAI Label's scoring.

No model is asked: the reviews themselves are the yardstick. Knows nothing about HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from bird_server.review.matching import overlap
from bird_server.review.records import CaseReport, ReviewedFinding
from bird_server.review.replay import original_of
from bird_server.service import current

REVIEWED = ("accepted", "edited", "rejected")


class ReviewScore(ScoringMethod):
    """Precision, recall and overlap of each version, by what people accepted, edited and drew."""

    def __init__(self) -> None:
        super().__init__("What reviewers made of each version: precision, recall, overlap")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """By version: counts, `precision`, `recall` and `overlap` in 0..1, None = nothing tells."""
        review = current().review
        if review is None:
            return {}
        reports = [review.store.report(s.case.volume_digest) for s in review.store.summaries()]
        return scores(reports)


def scoring_methods() -> dict[str, ScoringMethod]:
    return {"reviews": ReviewScore()}


def scores(reports: Iterable[CaseReport]) -> dict[str, Any]:
    """By `MODEL VERSION`; recall counts what was drawn by hand in cases that a version answered."""
    made: dict[str, _Tally] = {}
    for report in reports:
        drawn = sum(found.by_hand and found.status != "rejected" for found in report.findings)
        answered = {_name(found) for found in report.findings if not found.by_hand}
        for name in answered:
            made.setdefault(name, _Tally()).missed += drawn
        for found in report.findings:
            if not found.by_hand and found.status in REVIEWED:
                made.setdefault(_name(found), _Tally()).add(found, report)
    return {name: tally.json() for name, tally in sorted(made.items())}


class _Tally:
    """The reviewed findings of one version."""

    def __init__(self) -> None:
        self.accepted = self.edited = self.rejected = self.missed = 0
        self.overlaps: list[float] = []

    def add(self, found: ReviewedFinding, report: CaseReport) -> None:
        """An edited finding that was accepted afterwards still counts as edited."""
        if found.status == "rejected":
            self.rejected += 1
            return
        original = original_of(report.histories[found.finding_id])
        if original is None or original == found.content:
            self.accepted += 1
            self.overlaps.append(1.0)
        else:
            self.edited += 1
            self.overlaps.append(overlap(original, found.content))

    def json(self) -> dict[str, Any]:
        right = self.accepted + self.edited
        counts = {"accepted": self.accepted, "edited": self.edited}
        counts |= {"rejected": self.rejected, "drawn by hand": self.missed}
        return counts | {
            "precision": _share(right, right + self.rejected),
            "recall": _share(right, right + self.missed),
            "overlap": _share(sum(self.overlaps), len(self.overlaps)),
        }


def _name(found: ReviewedFinding) -> str:
    return f"{found.model.id} {found.model.version}"


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
