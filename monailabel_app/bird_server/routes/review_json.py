"""What the review routes answer: the records of the store as JSON models for the OpenAPI.

Knows nothing about routes or databases.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bird_server.review.lists import CasePage, CaseSummary, WorkPage
from bird_server.review.records import (
    STATUSES,
    Absence,
    CaseReport,
    Content,
    Event,
    Note,
    Places,
    ReviewedFinding,
)
from bird_server.routes.route_errors import ProblemJson

_FINDING_ID = "0d9f2c3b4a5e6f708192a3b4c5d6e7f8"
_DIGEST = "9c1185a5c5e9fc54612808977ee8f548"
_TIME = "2026-01-02T03:04:05.678+00:00"
_ROI = {
    "center_ras": [42.0, 8.5, -20.0],
    "size_mm": [120.0, 90.0, 60.0],
    "axes_ras": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}
_BOX = {
    "slice": 41,
    "score": 0.93,
    "box_pixel": [31.5, 40.0, 95.0, 110.5],
    "corners_ras": [[102, 53, -20], [-18, 53, -20], [-18, -37, -20], [102, -37, -20]],
    "asked": True,
}


class ModelJson(BaseModel):
    id: str = Field(examples=["bird-mini"])
    version: str = Field(examples=["0123456789abcdef"], description="fingerprint of its weights")


class ContentJson(BaseModel):
    """What a finding claims; positions as in a grounding result."""

    label: str = Field(examples=["liver"])
    score: float = Field(examples=[0.93])
    slices: tuple[int, int] = Field(
        examples=[[30, 52]], description="first and last, both included"
    )
    roi: dict[str, Any] = Field(examples=[_ROI])
    boxes: list[dict[str, Any]] = Field(examples=[[_BOX]])

    @classmethod
    def told(cls, content: Content) -> dict[str, Any]:
        return asdict(content) | {"slices": content.slices}


class EventJson(BaseModel):
    """One line of a finding's history."""

    revision: int = Field(examples=[2])
    kind: str = Field(examples=["accepted"])
    status: str = Field(examples=["accepted"])
    reviewer: str | None = Field(examples=["ann"], description="null: the model")
    time: str = Field(examples=[_TIME])
    comment: str = Field(examples=["The lower pole was missing."])
    content: ContentJson | None = Field(description="null: unchanged")

    @classmethod
    def of(cls, event: Event) -> EventJson:
        told = None if event.content is None else ContentJson.told(event.content)
        return cls(**asdict(event) | {"content": told})


class FindingJson(ContentJson):
    """A finding as it stands."""

    model_config = ConfigDict(protected_namespaces=())
    finding_id: str = Field(examples=[_FINDING_ID])
    volume_digest: str = Field(examples=[_DIGEST])
    prompt: str = Field(examples=["liver"], description="the label that was asked for")
    plane: str = Field(examples=["axial"])
    window: tuple[float, float] | None = Field(examples=[[40.0, 400.0]])
    status: str = Field(examples=["proposed"])
    revision: int = Field(examples=[1], description="send it back with a change")
    reviewer: str | None = Field(examples=[None], description="who changed it last")
    time: str = Field(examples=[_TIME])
    comment: str = Field(examples=["The lower pole was missing."])
    model: ModelJson | None = Field(description="null: drawn by hand")
    can_undo: bool = Field(examples=[False])
    can_redo: bool = Field(examples=[False])
    history: list[EventJson] | None = Field(None, description="where it was asked for")

    @classmethod
    def of(cls, found: ReviewedFinding, history: tuple[Event, ...] | None = None) -> FindingJson:
        told = ("finding_id", "prompt", "plane", "window", "status", "revision")
        told += ("reviewer", "time", "comment")
        return cls(
            **ContentJson.told(found.content),
            **{name: getattr(found, name) for name in told},
            volume_digest=found.case.volume_digest,
            model=None if found.by_hand else ModelJson(**asdict(found.model)),
            can_undo=found.undoable > 0,
            can_redo=found.redoable > 0,
            history=None if history is None else [EventJson.of(event) for event in history],
        )


class ConflictJson(ProblemJson):
    """A change that came too late."""

    present: FindingJson


class FindingsJson(BaseModel):
    findings: list[FindingJson]
    total: int = Field(examples=[1], description="on all pages")

    @classmethod
    def of(cls, page: WorkPage) -> FindingsJson:
        return cls(findings=[FindingJson.of(found) for found in page.findings], total=page.total)


class PlacesJson(BaseModel):
    """A case and where its file lies."""

    volume_digest: str = Field(examples=[_DIGEST])
    volume_id: str | None = Field(examples=["5f70bf18" * 8], description="of an upload")
    study: str | None = Field(examples=["scan.nii.gz"], description="path among the studies")
    name: str = Field(examples=["scan.nii.gz"])
    created: str = Field(examples=[_TIME])
    missing: list[str] = Field(examples=[["spleen"]], description="asked for and not found")


class SummaryJson(PlacesJson):
    counts: dict[str, int] = Field(
        examples=[{"proposed": 3, "accepted": 1, "edited": 0, "rejected": 0}]
    )
    notes: int = Field(examples=[0], description="how many")

    @classmethod
    def of(cls, summary: CaseSummary, stored: bool) -> SummaryJson:
        """`stored` tells whether the upload is still there."""
        return cls(
            **_where(summary.case.volume_digest, summary.places, stored),
            name=summary.case.name,
            created=summary.case.created,
            missing=list(summary.missing),
            counts=dict(summary.counts),
            notes=summary.notes,
        )


class CasesJson(BaseModel):
    cases: list[SummaryJson]
    total: int = Field(examples=[1], description="on all pages")

    @classmethod
    def of(cls, page: CasePage, stored) -> CasesJson:
        cases = [SummaryJson.of(summary, stored(summary.places)) for summary in page.cases]
        return cls(cases=cases, total=page.total)


class NoteJson(BaseModel):
    reviewer: str = Field(examples=["ann"])
    time: str = Field(examples=[_TIME])
    text: str = Field(examples=["Motion in the lower third."])


class NotesJson(BaseModel):
    notes: list[NoteJson]

    @classmethod
    def of(cls, notes: tuple[Note, ...]) -> NotesJson:
        return cls(notes=[NoteJson(**asdict(note)) for note in notes])


class AbsenceJson(BaseModel):
    """A label that was asked for and not found."""

    prompt: str = Field(examples=["spleen"])
    plane: str = Field(examples=["axial"])
    model: ModelJson
    time: str = Field(examples=[_TIME])

    @classmethod
    def of(cls, absence: Absence) -> AbsenceJson:
        model = ModelJson(**asdict(absence.model))
        return cls(prompt=absence.prompt, plane=absence.plane, model=model, time=absence.time)


class CaseJson(SummaryJson):
    """All that is known about a case."""

    geometry: dict[str, Any] = Field(
        examples=[{"shape_ijk": [512, 512, 80], "ijk_to_ras": [[-0.7, 0, 0, 180], [0, -0.7, 0, 0]]}]
    )
    findings: list[FindingJson]
    absences: list[AbsenceJson]
    note_list: list[NoteJson]
    histories: dict[str, list[EventJson]] | None = Field(
        None, examples=[None], description="by finding id"
    )

    @classmethod
    def of_report(cls, report: CaseReport, stored: bool, history: bool) -> CaseJson:
        statuses = [found.status for found in report.findings]
        histories = {
            uid: [EventJson.of(event) for event in events]
            for uid, events in report.histories.items()
        }
        return cls(
            **_where(report.case.volume_digest, report.places, stored),
            name=report.case.name,
            created=report.case.created,
            missing=list(dict.fromkeys(absence.prompt for absence in report.absences)),
            counts={status: statuses.count(status) for status in STATUSES},
            notes=len(report.notes),
            geometry=asdict(report.case.geometry),
            findings=[FindingJson.of(found) for found in report.findings],
            absences=[AbsenceJson.of(absence) for absence in report.absences],
            note_list=NotesJson.of(report.notes).notes,
            histories=histories if history else None,
        )


class NextJson(BaseModel):
    """The case that is most worth looking at."""

    case: SummaryJson | None = Field(description="null: nothing is left to review")
    strategy: str = Field(examples=["uncertainty"])
    score: float = Field(examples=[0.83], description="0..1, 1 = look at it first")
    reasons: list[str] = Field(examples=[["liver: score 0.48 on slices 30 to 52"]])
    left: int = Field(examples=[3], description="cases with findings that nobody has reviewed")


class StateJson(BaseModel):
    """How the review store is."""

    cases: int = Field(examples=[12])
    unreviewed: int = Field(
        examples=[3], description="cases with findings that nobody has reviewed"
    )
    recovery: str | None = Field(
        examples=[None], description="what was broken when it was opened, and what became of it"
    )


class StrategiesJson(BaseModel):
    strategies: dict[str, dict[str, str]] = Field(
        examples=[{"uncertainty": {"description": "Cases whose answers are least sure first"}}]
    )


def _where(volume_digest: str, places: Places, stored: bool) -> dict[str, Any]:
    return {
        "volume_digest": volume_digest,
        "volume_id": places.volume_id if stored else None,
        "study": places.study,
    }
