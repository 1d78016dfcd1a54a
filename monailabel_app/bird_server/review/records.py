"""The nouns of a review: cases, findings and their history, absences, notes, and what changes them.

Knows nothing about databases or files. Positions as in `bird_vlm.contract`; times are UTC, ISO 8601
with milliseconds and "+00:00".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from bird_vlm.contract import (
    BoxPixel,
    Finding,
    GroundingResult,
    Plane,
    Roi,
    SliceBox,
    VolumeGeometry,
)
from bird_vlm.errors import BadRequestError

Status = Literal["proposed", "accepted", "edited", "rejected"]
EventKind = Literal["proposed", "reproposed", "accepted", "edited", "rejected", "reopened"]
Order = Literal["oldest", "newest", "least certain"]
STATUSES: tuple[Status, ...] = get_args(Status)
ORDERS: tuple[Order, ...] = get_args(Order)
MAX_NAME_CHARACTERS = 255
MAX_COMMENT_CHARACTERS = 4000
MAX_PAGE = 500


@dataclass(frozen=True)
class NewCase:
    """A volume as the store should know it."""

    volume_digest: str  # Volume.digest
    name: str  # as people call it; the last one given is kept

    def __post_init__(self) -> None:
        check_name("volume_digest", self.volume_digest)
        check_name("name", self.name)


@dataclass(frozen=True)
class ModelVersion:
    """Which weights answered."""

    id: str
    version: str  # fingerprint of the weights, see `fingerprint.py`

    def __post_init__(self) -> None:
        check_name("model", self.id)
        check_name("version", self.version)


@dataclass(frozen=True)
class Proposal:
    """A model's whole answer about one volume."""

    case: NewCase
    model: ModelVersion
    result: GroundingResult


@dataclass(frozen=True)
class Proposed:
    """What became of a proposal; finding ids, each in one list."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()  # nobody had reviewed it, and the new answer has more boxes
    kept: tuple[str, ...] = ()  # known already, left as it is
    absent: tuple[str, ...] = ()  # labels


@dataclass(frozen=True)
class By:
    """Who changes a finding, and which revision of it this person saw."""

    reviewer: str
    revision: int
    comment: str = ""

    def __post_init__(self) -> None:
        check_name("reviewer", self.reviewer)
        check_text("comment", self.comment)
        if isinstance(self.revision, bool) or not 1 <= self.revision < 2**63:
            raise BadRequestError(f"revision: must be a number from 1 up, got {self.revision}")


@dataclass(frozen=True)
class Edit:
    """What a reviewer changes; None leaves that part as it is.

    Boxes alone move the ROI with them, an ROI alone cuts its boxes anew.
    """

    label: str | None = None
    boxes: tuple[tuple[int, BoxPixel], ...] | None = None  # (slice, box_pixel)
    roi: Roi | None = None


@dataclass(frozen=True)
class Content:
    """What a finding claims."""

    label: str
    score: float  # 0..1
    roi: Roi
    boxes: tuple[SliceBox, ...]  # in slice order; score 1 = drawn by a person

    @property
    def slices(self) -> tuple[int, int]:
        """First and last, both included."""
        return self.boxes[0].slice, self.boxes[-1].slice

    def finding(self) -> Finding:
        return Finding(self.label, self.score, self.slices, self.roi, self.boxes)


def content_of(finding: Finding) -> Content:
    return Content(finding.label, finding.score, finding.roi, finding.boxes)


@dataclass(frozen=True)
class Case:
    volume_digest: str
    name: str
    geometry: VolumeGeometry
    created: str  # time


@dataclass(frozen=True)
class Event:
    """One line of a finding's history; revision n is the n-th line."""

    revision: int
    kind: EventKind
    status: Status  # after it
    reviewer: str | None  # None: the model
    time: str
    comment: str
    content: Content | None  # None: unchanged


@dataclass(frozen=True)
class ReviewedFinding:
    """A finding as it stands."""

    finding_id: str  # 32 hex digits, the same in every export
    case: Case
    model: ModelVersion
    prompt: str  # the label that was asked for
    plane: Plane
    window: tuple[float, float] | None  # (level, width) that the model saw
    content: Content
    status: Status
    revision: int
    reviewer: str | None  # who changed it last; None: nobody yet
    time: str  # of the last change
    comment: str  # of the last change


@dataclass(frozen=True)
class Absence:
    """A label that was asked for and not found."""

    case: Case
    model: ModelVersion
    prompt: str
    plane: Plane
    time: str


@dataclass(frozen=True)
class Note:
    """A remark about a whole volume."""

    reviewer: str
    time: str
    text: str


@dataclass(frozen=True)
class CaseSummary:
    """A line of the list of cases."""

    case: Case
    counts: dict[Status, int]  # every status, 0 included
    missing: tuple[str, ...]  # prompts that were asked and that no finding answers


@dataclass(frozen=True)
class WorkFilter:
    """Which findings a work list shows; None = any."""

    volume_digest: str | None = None
    statuses: tuple[Status, ...] = ()  # empty = any; ("proposed",) = unreviewed
    label: str | None = None  # compared as `natural_name`
    model: str | None = None
    version: str | None = None
    reviewer: str | None = None
    order: Order = "oldest"
    offset: int = 0
    limit: int = 100  # at most MAX_PAGE

    def __post_init__(self) -> None:
        for status in self.statuses:
            if status not in STATUSES:
                raise BadRequestError(
                    f"statuses: must be among {', '.join(STATUSES)}, got {status!r}"
                )
        if self.order not in ORDERS:
            raise BadRequestError(f"order: must be one of {', '.join(ORDERS)}, got {self.order!r}")
        if not 0 <= self.offset < 2**63:
            raise BadRequestError(f"offset: must be 0 or more, got {self.offset}")
        if not 1 <= self.limit <= MAX_PAGE:
            raise BadRequestError(f"limit: must lie in 1..{MAX_PAGE}, got {self.limit}")


@dataclass(frozen=True)
class WorkPage:
    findings: tuple[ReviewedFinding, ...]
    total: int  # that fit the filter, on all pages


@dataclass(frozen=True)
class CaseReport:
    """All that is known about one case: what every export starts from."""

    case: Case
    findings: tuple[ReviewedFinding, ...]
    histories: dict[str, tuple[Event, ...]] = field(default_factory=dict)  # by finding id
    absences: tuple[Absence, ...] = ()  # that still stand
    notes: tuple[Note, ...] = ()
    time: str = ""  # when it was put together


def check_name(argument: str, value: str) -> None:
    """Raises BadRequestError unless `value` is one printable line of 1 to 255 characters."""
    if not value.strip() or len(value) > MAX_NAME_CHARACTERS or not value.isprintable():
        raise BadRequestError(
            f"{argument}: needs one line of 1 to {MAX_NAME_CHARACTERS} printable characters, "
            f"got {value[:40]!r}"
        )


def check_text(argument: str, value: str, least: int = 0) -> None:
    """Raises BadRequestError unless `value` is printable lines of at most 4000 characters."""
    lines_printable = all(c.isprintable() or c in "\n\t" for c in value)
    if not least <= len(value.strip()) or len(value) > MAX_COMMENT_CHARACTERS:
        raise BadRequestError(
            f"{argument}: needs {least} to {MAX_COMMENT_CHARACTERS} characters, got {len(value)}"
        )
    if not lines_printable:
        raise BadRequestError(f"{argument}: control characters are refused, got {value[:40]!r}")
