"""What the server's review store answers, read from JSON into checked values.

A case is a volume with all that was found in it and what people made of that. Knows nothing about
HTTP or MRML.
"""

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from .answers import Finding, read_finding
from .errors import ServerFault
from .fields import field, number, strings, value_of
from .i18n import tr as _
from .notes import Note
from .places import Place
from .statuses import STATUSES


@dataclass(frozen=True)
class StoredFinding:
    """A finding as the server's store has it."""

    finding: Finding
    finding_id: str
    prompt: str  # the label that was asked for
    plane: str
    model: str  # empty: drawn by hand
    status: str
    revision: int
    reviewer: str  # who changed it last; empty: nobody yet
    comment: str
    time: str
    can_undo: bool

    @property
    def place(self):
        return Place(self.finding.center_ras, self.finding.size_mm, self.finding.axes_ras)


@dataclass(frozen=True)
class CaseSummary:
    """A line of the work list."""

    volume_digest: str  # the store's name for it
    volume_id: Optional[str]  # of an upload
    study: Optional[str]  # its path among the studies, where it lies there
    name: str
    counts: Dict[str, int]  # status -> findings
    missing: Tuple[str, ...]  # labels asked for and not found
    notes: int

    @property
    def image(self):
        """MONAI Label's name of the scan, or None where it does not lie among the studies."""
        if self.study is None:
            return None
        name = self.study.replace("\\", "/").rsplit("/", 1)[-1]
        return name[: -len(".nii.gz")] if name.endswith(".nii.gz") else name.rsplit(".", 1)[0]


@dataclass(frozen=True)
class Case:
    summary: CaseSummary
    findings: Tuple[StoredFinding, ...]
    absences: Tuple[Tuple[str, str, str], ...]  # (label, plane, model)
    notes: Tuple[Note, ...]


@dataclass(frozen=True)
class NextCase:
    """The server's choice of what to review next."""

    case: Optional[CaseSummary]  # None: nothing is left
    reasons: Tuple[str, ...]
    left: int


def read_stored_finding(answer):
    status = field(answer, "status", str)
    if status not in STATUSES:
        raise ServerFault(_("The server's answer has an unknown status {!r}.").format(status))
    model = value_of(answer, "model")
    return StoredFinding(
        finding=read_finding(answer),
        finding_id=field(answer, "finding_id", str),
        prompt=field(answer, "prompt", str),
        plane=field(answer, "plane", str),
        model="" if model is None else field(model, "id", str),
        status=status,
        revision=field(answer, "revision", int),
        reviewer=_optional(answer, "reviewer") or "",
        comment=field(answer, "comment", str),
        time=field(answer, "time", str),
        can_undo=field(answer, "can_undo", bool),
    )


def read_summary(answer):
    counts = field(answer, "counts", dict)
    return CaseSummary(
        volume_digest=field(answer, "volume_digest", str),
        volume_id=_optional(answer, "volume_id"),
        study=_optional(answer, "study"),
        name=field(answer, "name", str),
        counts={status: field(counts, status, int) for status in counts},
        missing=tuple(strings(field(answer, "missing", list), "missing")),
        notes=field(answer, "notes", int),
    )


def read_cases(answer):
    """(CaseSummary list, how many there are on all pages)."""
    cases = [read_summary(case) for case in field(answer, "cases", list)]
    return cases, field(answer, "total", int)


def read_case(answer):
    return Case(
        summary=read_summary(answer),
        findings=tuple(read_stored_finding(found) for found in field(answer, "findings", list)),
        absences=tuple(_absence(absence) for absence in field(answer, "absences", list)),
        notes=read_notes(answer, "note_list"),
    )


def read_notes(answer, name="notes"):
    return tuple(
        Note(*(field(note, part, str) for part in ("reviewer", "text", "time")), told=True)
        for note in field(answer, name, list)
    )


def read_next_case(answer):
    case = value_of(answer, "case")
    number(answer, "score")
    return NextCase(
        case=None if case is None else read_summary(case),
        reasons=tuple(strings(field(answer, "reasons", list), "reasons")),
        left=field(answer, "left", int),
    )


def _absence(absence):
    model = field(field(absence, "model", dict), "id", str)
    return field(absence, "prompt", str), field(absence, "plane", str), model


def _optional(answer, name):
    return None if value_of(answer, name) is None else field(answer, name, str)
