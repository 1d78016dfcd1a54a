"""The list of findings: a line per finding, sorted, filtered, walked through.

Knows nothing about MRML, Qt or HTTP.
"""

from collections import namedtuple
from dataclasses import dataclass
from typing import FrozenSet

from .i18n import tr as _
from .statuses import ABSENT, DECIDED, DISPUTED, PROPOSED, STATUSES, UNTOLD

# key: of the finding, empty where the label is absent; slices: first and last, or None;
# size_mm: edge lengths of its 3D box, or None; told: see statuses.py.
Line = namedtuple("Line", "key prompt label score slices size_mm status model comment told")
COLUMNS = ("label", "status", "score", "slices", "size", "model")

_TOLD_MARKS = {UNTOLD: " *", DISPUTED: " (disputed)"}


@dataclass(frozen=True)
class Listing:
    """Which lines show, and in which order.

    The threshold hides what is proposed with less, never what a person has decided.
    """

    by: str = "slices"  # one of COLUMNS
    descending: bool = False
    words: str = ""  # each must occur in label, status, model, question or comment
    statuses: FrozenSet[str] = frozenset()  # empty = every status
    threshold: float = 0.0  # 0..1

    def shows(self, line):
        """Whether a Line is in the list."""
        if self.statuses and line.status not in self.statuses:
            return False
        if line.status == PROPOSED and line.score < self.threshold:
            return False
        told = " ".join((line.label, line.status, line.model, line.prompt, line.comment)).lower()
        return all(word in told for word in self.words.lower().split())

    def of(self, lines):
        """The lines that show, in order; equal ones stay as they came."""
        shown = [line for line in lines if self.shows(line)]
        return sorted(shown, key=_ORDERS[self.by], reverse=self.descending)


def cells(line):
    """A Line as the words of its table cells, in the order of COLUMNS.

    >>> cells(Line("1/1", "", "liver", 0.914, (3, 9), (120.2, 99.0, 14), "proposed", "m", "", ""))
    ('liver', 'proposed', '0.91', '3-9', '120 x 99 x 14', 'm')
    """
    return (
        line.label,
        line.status + _TOLD_MARKS.get(line.told, ""),
        "" if line.slices is None else "{:.2f}".format(line.score),
        "" if line.slices is None else _span(*line.slices),
        "" if line.size_mm is None else " x ".join("{:.0f}".format(mm) for mm in line.size_mm),
        line.model or _("by hand"),
    )


def neighbour(shown, key, step):
    """Key of the finding `step` lines after (or before) `key`; None at the list's end.

    Where `key` is not in the list, the first one (or the last).
    """
    keys = [line.key for line in shown if line.key]
    if key not in keys:
        return (keys[0] if step > 0 else keys[-1]) if keys else None
    index = keys.index(key) + step
    return keys[index] if 0 <= index < len(keys) else None


def next_open(shown, key):
    """Key of the next finding that nobody has decided, going round; None where all are."""
    keys = [line.key for line in shown]
    start = keys.index(key) + 1 if key in keys else 0
    later = (line.key for line in shown[start:] + shown[:start] if line.status == PROPOSED)
    return next(later, None)


def tally(lines):
    """How far the review is, in words.

    >>> line = Line("1/1", "", "liver", 0.9, (3, 9), None, "accepted", "m", "", "")
    >>> tally([line, line._replace(status="proposed")])
    '1 of 2 reviewed'
    """
    open_to_decide = [line for line in lines if line.status != ABSENT]
    decided = sum(line.status in DECIDED for line in open_to_decide)
    return _("{} of {} reviewed").format(decided, len(open_to_decide))


def _span(first, last):
    return str(first) if first == last else "{}-{}".format(first, last)


def _volume(size_mm):
    return -1.0 if size_mm is None else size_mm[0] * size_mm[1] * size_mm[2]


_LAST = 1 << 30  # what was not found comes after every slice
_ORDERS = {
    "label": lambda line: line.label.lower(),
    "score": lambda line: line.score,
    "slices": lambda line: line.slices or (_LAST, _LAST),
    "size": lambda line: _volume(line.size_mm),
    "status": lambda line: STATUSES.index(line.status),
    "model": lambda line: line.model.lower(),
}
