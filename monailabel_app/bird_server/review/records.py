"""The nouns of a review: cases, findings and their history, absences, notes, and what changes them.

Knows nothing about databases or files. Positions as in `bird_vlm.contract`; times are UTC, ISO 8601
with milliseconds and "+00:00".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from bird_server.review.checks import check_name, check_text
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
ModelEvent = Literal["proposed", "reproposed"]
PeopleEvent = Literal["added", "accepted", "edited", "rejected", "reopened", "undone", "redone"]
EventKind = Literal[ModelEvent, PeopleEvent]
STATUSES: tuple[Status, ...] = get_args(Status)


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


DRAWN_BY_HAND = ModelVersion("drawn by hand", "-")  # of findings that no model proposed


@dataclass(frozen=True)
class Places:
    """Where the file of a case lies; the store keeps no voxels."""

    volume_id: str | None = None  # of an upload: SHA-256 of its bytes, in hex
    study: str | None = None  # path within the studies folder, with "/"


NOWHERE = Places()


@dataclass(frozen=True)
class Proposal:
    """A model's whole answer about one volume."""

    case: NewCase
    model: ModelVersion
    result: GroundingResult
    places: Places = NOWHERE


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
class Drawing:
    """A finding that no model made: boxes, an ROI, or both."""

    label: str
    plane: Plane = "axial"
    boxes: tuple[tuple[int, BoxPixel], ...] | None = None  # (slice, box_pixel)
    roi: Roi | None = None
    finding_id: str | None = None  # chosen by whoever draws, so that asking twice adds it once


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
    undoable: int = 0  # changes of people that can be taken back
    redoable: int = 0  # and those that were taken back last

    @property
    def by_hand(self) -> bool:
        return self.model == DRAWN_BY_HAND


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
class CaseReport:
    """All that is known about one case: what every export starts from."""

    case: Case
    findings: tuple[ReviewedFinding, ...]
    histories: dict[str, tuple[Event, ...]] = field(default_factory=dict)  # by finding id
    absences: tuple[Absence, ...] = ()  # that still stand
    notes: tuple[Note, ...] = ()
    places: Places = NOWHERE
    time: str = ""  # when it was put together
