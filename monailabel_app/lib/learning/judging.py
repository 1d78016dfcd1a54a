"""What a version is worth: its answers to the held-out questions against what reviewers said.

Knows nothing about models or versions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from bird_training.evaluation.metrics import found_boxes
from bird_training.evaluation.predictions import Prediction, read_predictions
from bird_training.evaluation.responses import boxes_as_authors
from bird_vlm.boxes import iou


@dataclass(frozen=True)
class Judgement:
    """Counts over the held-out questions."""

    boxes: int  # that reviewers accepted or drew
    found: int  # of them, overlapped by an answer with an IoU above 0.5
    overlap: float  # mean over them of the best IoU of an answer, 0..1
    lacking: int  # questions about slices that do not show the label
    silent: int  # of them, rightly answered without a box

    @property
    def recall(self) -> float:
        return self.found / self.boxes if self.boxes else 0.0

    @property
    def specificity(self) -> float:
        """Share of the absences that are told; 1 where nothing tells."""
        return self.silent / self.lacking if self.lacking else 1.0

    @property
    def score(self) -> float:
        """What versions are compared by: the mean of recall and specificity."""
        return (self.recall + self.specificity) / 2

    def is_worse_than(self, before: Judgement) -> bool:
        """By the score; or by a recall that fell further than its standard error, or one box.

        Boxes that are no longer found cost more than boxes that are no longer made up.
        """
        count = max(before.boxes, 1)
        slack = max(math.sqrt(before.recall * (1 - before.recall) / count), 1 / count)
        return self.score < before.score or self.recall < before.recall - slack

    def json(self) -> dict[str, float | int]:
        return {
            "score": round(self.score, 4),
            "recall": round(self.recall, 4),
            "specificity": round(self.specificity, 4),
            "overlap": round(self.overlap, 4),
            "boxes": self.boxes,
            "absences": self.lacking,
        }


def judge(folder: Path) -> Judgement:
    """The answers that `medgrit predict` wrote into `folder`. Raises BirdError."""
    answers = read_predictions(folder).get("VG", [])
    pairs = [(boxes_as_authors(a.annotation), boxes_as_authors(a.response)) for a in answers]
    present = [(targets, said) for targets, said in pairs if targets]
    best = [max((iou(t, box) for box in said), default=0.0) for ts, said in present for t in ts]
    return Judgement(
        boxes=len(best),
        found=sum(found_boxes(*pair) for pair in present),
        overlap=sum(best) / len(best) if best else 0.0,
        lacking=len(pairs) - len(present),
        silent=sum(not targets and not said for targets, said in pairs),
    )


def by_label(folder: Path) -> dict[str, float]:
    """Recall by label, for the record."""
    answers: dict[str, list[Prediction]] = {}
    for answer in read_predictions(folder).get("VG", []):
        if boxes_as_authors(answer.annotation):
            name = answer.annotation.split("<ref>", 1)[-1].split("</ref>", 1)[0]
            answers.setdefault(name, []).append(answer)
    return {label: round(_recall(rows), 4) for label, rows in sorted(answers.items())}


def _recall(answers: list[Prediction]) -> float:
    targets = [boxes_as_authors(answer.annotation) for answer in answers]
    said = [boxes_as_authors(answer.response) for answer in answers]
    found = sum(found_boxes(*pair) for pair in zip(targets, said, strict=True))
    return found / sum(map(len, targets))
