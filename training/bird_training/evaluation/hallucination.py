"""Does a model draw what is not there? (Paper: "asked for an absent kidney, it draws one".)

As in POPE (Li et al. 2023): as many questions for present objects as for absent ones, drawn with a
seed within each modality; "present" is the positive answer. Knows nothing about files.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

from bird_training.evaluation.metrics import Reading, by_modality
from bird_training.evaluation.predictions import Prediction
from bird_training.evaluation.responses import Claim, claim


@dataclass(frozen=True)
class Presence:
    """Counts of grounding questions; add them up with `+`."""

    asked_present: int = 0  # for objects that are there
    drawn_present: int = 0  # of these, answered with a box
    refused_present: int = 0  # of these, answered as absent
    asked_absent: int = 0
    drawn_absent: int = 0  # hallucinated
    refused_absent: int = 0

    def __add__(self, other: Presence) -> Presence:
        return Presence(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def rates(self) -> dict[str, float | None]:
        """Shares 0..1 of all questions of a kind; None where there are none."""
        return {
            "false_refusal": _share(self.refused_present, self.asked_present),
            "absent_refused": _share(self.refused_absent, self.asked_absent),
        }

    def quality(self) -> dict[str, float | None]:
        """Accuracy, precision, recall and F1 of "present"; an answer that says neither is wrong."""
        right, drawn = self.drawn_present, self.drawn_present + self.drawn_absent
        return {
            "accuracy": _share(right + self.refused_absent, self.asked_present + self.asked_absent),
            "precision": _share(right, drawn),
            "recall": _share(right, self.asked_present),
            "f1": _share(2 * right, drawn + self.asked_present),
        }


def hallucination(
    predictions: Sequence[Prediction], reading: Reading, seed: int = 0
) -> dict | None:
    """The report on the VG questions, as JSON; None where no object is absent."""
    groups = {
        name: [(row, truth) for row in rows if (truth := truth_of(row, reading)) != "unclear"]
        for name, rows in by_modality(predictions).items()
    }
    counted = {name: count(rows, reading) for name, rows in groups.items() if rows}
    if not any(counts.asked_absent for counts in counted.values()):
        return None
    drawn = {name: count(balanced(rows, seed), reading) for name, rows in groups.items()}
    drawn = {name: counts for name, counts in drawn.items() if counts.asked_absent}
    return {
        "balanced": {
            "questions": sum(c.asked_present + c.asked_absent for c in drawn.values()),
            **sum(drawn.values(), Presence()).quality(),
            "accuracy_per_modality": {n: c.quality()["accuracy"] for n, c in drawn.items()},
            "seed": seed,
        },
        "all": {
            "per_modality": {name: vars(c) | c.rates() for name, c in counted.items()},
            "mean": _means([c.rates() for c in counted.values()]),
        },
    }


def truth_of(row: Prediction, reading: Reading) -> Claim:
    """Whether the object is on the picture, by the annotation."""
    if reading.boxes(row.annotation):
        return "present"
    return "absent" if claim(row.annotation, reading.boxes) == "absent" else "unclear"


def balanced(rows: Sequence[tuple[Prediction, Claim]], seed: int) -> list[tuple[Prediction, Claim]]:
    """As many present as absent ones, chosen by `seed` alone."""
    sides = [[row for row in rows if row[1] == truth] for truth in ("present", "absent")]
    size = min(map(len, sides))
    return [row for side in sides for row in random.Random(seed).sample(side, size)]


def count(rows: Sequence[tuple[Prediction, Claim]], reading: Reading) -> Presence:
    """Counts over questions and the truth about each."""
    said = [(truth, claim(reading.clean(row.response), reading.boxes)) for row, truth in rows]
    return Presence(
        asked_present=sum(truth == "present" for truth, _ in said),
        drawn_present=said.count(("present", "present")),
        refused_present=said.count(("present", "absent")),
        asked_absent=sum(truth == "absent" for truth, _ in said),
        drawn_absent=said.count(("absent", "present")),
        refused_absent=said.count(("absent", "absent")),
    )


def _means(rates: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    known = {key: [r[key] for r in rates if r[key] is not None] for key in rates[0]}
    return {key: sum(v) / len(v) if v else None for key, v in known.items()}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
