"""The work list: the cases of the server's store, as they were last read.

Knows nothing about MRML, Qt or HTTP.
"""

from dataclasses import dataclass

from .i18n import tr as _
from .statuses import DECIDED, PROPOSED

FILTERS = ("all", "unreviewed", "expected organ missing")
COLUMNS = ("case", "to review", "reviewed", "missing")


@dataclass(frozen=True)
class CaseFilter:
    """Which cases to list."""

    kind: str = "all"  # one of FILTERS
    name: str = ""  # part of the case's name

    def query(self):
        """Keyword arguments of ReviewClient.cases."""
        return {
            "unreviewed": self.kind == FILTERS[1],
            "any_missing": self.kind == FILTERS[2],
            "name": " ".join(self.name.split()),
        }


class WorkList:
    """Cases in the server's order, and the one that is open."""

    def __init__(self):
        self.cases = []
        self.total = 0  # on the server, all pages
        self.open = None  # volume_digest

    def neighbour(self, step):
        """The case `step` after the open one, or None at the end; the first where none is open."""
        digests = [case.volume_digest for case in self.cases]
        if self.open not in digests:
            return self.cases[0 if step > 0 else -1] if self.cases else None
        index = digests.index(self.open) + step
        return self.cases[index] if 0 <= index < len(digests) else None


def case_cells(case):
    """A cases.CaseSummary as table cells, in the order of COLUMNS."""
    reviewed = sum(case.counts.get(status, 0) for status in DECIDED)
    return (
        case.name,
        str(case.counts.get(PROPOSED, 0)),
        str(reviewed),
        ", ".join(case.missing),
    )


def choice_words(choice):
    """Why the server proposes a cases.NextCase, for the panel."""
    if choice.case is None:
        return _("Every case is reviewed.")
    reasons = "; ".join(choice.reasons) or _("no reason given")
    return _("{} ({}). {} to review.").format(choice.case.name, reasons, choice.left)
