"""How much of a test set a folder of predictions answers, for the report and in words.

Knows nothing about measures or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bird_training.evaluation.predictions import Prediction
from bird_training.facts import TASKS


def coverage(
    predictions: Mapping[str, Sequence[Prediction]], asked: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """By task the questions that were "asked", are "answered" and have "failed".

    `asked` is what the test set holds; a task that it does not know asks what has a line.
    """
    found = {}
    for task in TASKS:
        lines = predictions.get(task, ())
        failed = sum(line.failed for line in lines)
        if total := asked.get(task, len(lines)):
            found[task] = {"asked": total, "answered": len(lines) - failed, "failed": failed}
    return found


def gaps(covered: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """A warning for each task that is not answered as a whole."""
    for task, count in covered.items():
        if count["answered"] < count["asked"]:
            failed = f"; {count['failed']} failed and score as wrong" if count["failed"] else ""
            yield (
                f"{task}: {count['answered']} of {count['asked']} questions are answered{failed}; "
                "the same `medgrit predict` command asks the others"
            )
