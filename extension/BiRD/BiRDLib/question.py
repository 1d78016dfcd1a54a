"""A question as the user put it together in the panel, and whether it can be asked.

Knows nothing about HTTP, nor where in the panel the parts come from.
"""

from dataclasses import dataclass
from typing import Any, Tuple

EXTENTS = CURRENT, VISIBLE, WHOLE = ("current slice", "visible range", "whole volume")


@dataclass(frozen=True)
class Question:
    """What to look for, and where."""

    volume: Any  # vtkMRMLScalarVolumeNode or None
    labels: Tuple[str, ...] = ()
    plane: str = "axial"  # of the volume's own axes
    extent: str = CURRENT  # one of EXTENTS, as the user's slice views stand
    threshold: float = 0.5  # presence probability, 0..1, below which a label is absent
    send_window: bool = True  # ask with the brightness that the user sees


def question_of(parameters):
    """The Question that a parameter node (parameters.py) holds now."""
    return Question(
        volume=parameters.volume,
        labels=parse_labels(parameters.labels),
        plane=parameters.plane,
        extent=parameters.extent,
        threshold=parameters.threshold,
        send_window=parameters.sendWindow,
    )


def parse_labels(text):
    """One label per line, in order, without blanks and repetitions.

    >>> parse_labels("liver\\n\\n  right  kidney \\nliver")
    ('liver', 'right kidney')
    """
    labels = (" ".join(line.split()) for line in text.splitlines())
    return tuple(dict.fromkeys(label for label in labels if label))


def summary(question, slices=None):
    """The question in a few words, for folders and the log; `slices`: (first, last + 1) or None.

    >>> summary(Question(None, ("liver", "spleen")), (12, 13))
    'liver, spleen (axial 12)'
    """
    labels = ", ".join(question.labels)
    labels = labels if len(labels) <= 60 else labels[:57] + "..."
    where = question.plane
    if slices is not None:
        first, last = slices[0], slices[1] - 1
        span = str(first) if first == last else "{}-{}".format(first, last)
        where = "{} {}".format(question.plane, span)
    return "{} ({})".format(labels, where)
