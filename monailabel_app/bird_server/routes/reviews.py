"""The review routes under /bird/v1: cases, findings, decisions on them, remarks, exports.

Turns HTTP into calls of the review store; which case comes next is `learning`'s choice, and how
files look is the exports'. Wherever a case is named, its volume digest or its upload's id will do.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from bird_server.errors import problem_of
from bird_server.learning.strategies import STRATEGIES, Ranked, ranked
from bird_server.review.errors import NothingToUndoError, StaleRevisionError
from bird_server.review.lists import CaseFilter, CaseOrder, Order, WorkFilter
from bird_server.review.records import ReviewedFinding
from bird_server.review.review import ExportKind, Review
from bird_server.routes.review_bodies import ChangeBody, DrawingBody, NoteBody, StepBody
from bird_server.routes.review_json import (
    CaseJson,
    CasesJson,
    ConflictJson,
    FindingJson,
    FindingsJson,
    NextJson,
    NotesJson,
    StateJson,
    StrategiesJson,
    SummaryJson,
)
from bird_server.routes.review_parameters import (
    CaseChoice,
    CaseKey,
    CaseName,
    FindingId,
    InReview,
    Label,
    Limit,
    ModelName,
    Offset,
    Reviewer,
    Statuses,
    StrategyName,
    Version,
    Volumes,
)
from bird_server.routes.route_errors import failures
from bird_server.volumes.reviewed_volumes import ReviewedVolumes

# Reports hold what people wrote: wherever a browser shows one, nothing of it runs.
_HARMLESS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
router = APIRouter(prefix="/bird/v1", tags=["BiRD review"])
_FILE = {"application/octet-stream": {"example": "the bytes of scan.mrk.json"}}
_CHANGE_FAILS = failures(404, 422, 503) | {
    409: {"model": ConflictJson, "description": "Somebody else was first."}
}


@router.get("/cases", responses=failures(422, 503))
def cases(
    review: InReview,
    volumes: Volumes,
    unreviewed: bool = False,
    missing: Label = None,
    any_missing: bool = False,
    name: CaseName = None,
    order: CaseOrder = "oldest",
    offset: Offset = 0,
    limit: Limit = 100,
) -> CasesJson:
    """The cases, a page of them.

    `unreviewed`: with findings that nobody has reviewed. `missing`: that lack this organ, though it
    was asked for; `any_missing`: any organ. `name`: a part of the case's name.
    """
    wanted = CaseFilter(unreviewed, missing, any_missing, name, order, offset, limit)
    return CasesJson.of(review.store.cases(wanted), volumes.is_stored)


@router.get("/cases/next", responses=failures(404, 422, 503))
def next_case(
    review: InReview,
    volumes: Volumes,
    strategy: StrategyName = "uncertainty",
    after: CaseChoice = None,
) -> NextJson:
    """The case to look at next, by a strategy; `after` is the one just done, which is left out."""
    left = ranked(review.store, strategy)
    done = after and volumes.digest(after)
    rest = [case for case in left if case.summary.case.volume_digest != done]
    return _next_json(strategy, rest, volumes)


@router.get("/cases/{case}/next", responses=failures(404, 422, 503))
def next_after(
    case: CaseKey, review: InReview, volumes: Volumes, strategy: StrategyName = "uncertainty"
) -> NextJson:
    """The case to look at after this one, by a strategy."""
    return next_case(review, volumes, strategy, case)


@router.get("/review", responses=failures(503))
def state(review: InReview) -> StateJson:
    """How much is reviewed, and what was found broken when the server opened its store."""
    summaries, recovery = review.store.summaries(), review.store.recovery
    return StateJson(
        cases=len(summaries),
        unreviewed=sum(summary.counts["proposed"] > 0 for summary in summaries),
        recovery=recovery and recovery.text(),
    )


@router.get("/strategies")
def strategies() -> StrategiesJson:
    """The ways to choose the next case."""
    told = {name: {"description": strategy.description} for name, strategy in STRATEGIES.items()}
    return StrategiesJson(strategies=told)


@router.get("/cases/{case}", response_model=CaseJson, responses=failures(404, 422, 503))
def case_report(
    case: CaseKey, review: InReview, volumes: Volumes, history: bool = False
) -> Response:
    """All that is known about a case: findings, what was not found, remarks; with `history` each
    change."""
    report = review.store.report(volumes.digest(case), histories=history)
    return large(CaseJson.of_report(report, volumes.is_stored(report.places), history))


@router.get("/findings", response_model=FindingsJson, responses=failures(404, 422, 503))
def findings(
    review: InReview,
    volumes: Volumes,
    case: CaseChoice = None,
    status: Statuses = (),  # type: ignore[assignment]
    label: Label = None,
    model: ModelName = None,
    version: Version = None,
    reviewer: Reviewer = None,
    order: Order = "oldest",
    offset: Offset = 0,
    limit: Limit = 100,
) -> Response:
    """The work list: findings of all cases, a page of them; `status` may be repeated."""
    wanted = WorkFilter(
        volume_digest=case and volumes.digest(case),
        statuses=tuple(status),
        label=label,
        model=model,
        version=version,
        reviewer=reviewer,
        order=order,
        offset=offset,
        limit=limit,
    )
    return large(FindingsJson.of(review.store.work_list(wanted)))


@router.get("/findings/{finding_id}", responses=failures(404, 422, 503))
def finding(finding_id: FindingId, review: InReview, history: bool = False) -> FindingJson:
    """One finding as it stands."""
    found = review.store.finding(finding_id)
    return FindingJson.of(found, review.store.history(finding_id) if history else None)


@router.patch("/findings/{finding_id}", response_model=FindingJson, responses=_CHANGE_FAILS)
def change(finding_id: FindingId, body: ChangeBody, review: InReview) -> Any:
    """Accepts, rejects, edits or reopens a finding.

    Refused with 409 where somebody else changed it first; the answer holds it as it is now.
    """
    edit, by = body.edit(), body.by()
    if body.action == "edit":
        return _changed(review, finding_id, lambda: review.store.edit(finding_id, by, edit))
    act = getattr(review.store, body.action)
    return _changed(review, finding_id, lambda: act(finding_id, by))


@router.post(
    "/findings/{finding_id}/{step}",
    response_model=FindingJson,
    responses=_CHANGE_FAILS,
)
def step(
    finding_id: FindingId, step: Literal["undo", "redo"], body: StepBody, review: InReview
) -> Any:
    """Takes back the last change that a person made, or makes it again."""
    act, by = getattr(review.store, step), body.by()
    return _changed(review, finding_id, lambda: act(finding_id, by))


@router.post("/cases/{case}/findings", status_code=201, responses=failures(404, 422, 503))
def draw(
    case: CaseKey, body: DrawingBody, response: Response, review: InReview, volumes: Volumes
) -> FindingJson:
    """Adds a finding that a reviewer drew; it is accepted from the start."""
    known = volumes.known(case)
    found, is_new = review.store.add_finding(
        known.case, known.geometry, body.drawing(), body.reviewer, body.comment, known.places
    )
    response.status_code = 201 if is_new else 200
    return FindingJson.of(found)


@router.put("/cases/{case}/notes", responses=failures(404, 422, 503))
def note(case: CaseKey, body: NoteBody, review: InReview, volumes: Volumes) -> NotesJson:
    """Adds a remark about the whole volume; the last one again stores nothing new."""
    digest = volumes.digest(case)
    review.store.add_note(digest, body.reviewer, body.text)
    return NotesJson.of(review.store.report(digest, histories=False).notes)


@router.get(
    "/cases/{case}/export/{kind}",
    response_class=Response,
    responses=failures(404, 422, 503) | {200: {"description": "the file", "content": _FILE}},
)
def export(
    case: CaseKey,
    kind: ExportKind,
    review: InReview,
    volumes: Volumes,
    status: Statuses = (),  # type: ignore[assignment]
) -> Response:
    """The case as a file: Slicer markups, CSV, COCO JSON, DICOM SR or an HTML report."""
    digest = volumes.digest(case)
    scan = volumes.scan(review.store.report(digest, histories=False), kind)
    file = review.export(digest, kind, scan, tuple(status) or None)
    name = {"Content-Disposition": f'attachment; filename="{file.name}"'}
    return Response(file.content, media_type=file.media_type, headers=name | _HARMLESS)


def large(answer: BaseModel) -> Response:
    """Written here, on the route's own thread: the event loop would answer nobody meanwhile."""
    return Response(answer.model_dump_json(), media_type="application/json")


def _next_json(strategy: str, left: list[Ranked], volumes: ReviewedVolumes) -> NextJson:
    if not left:
        return NextJson(case=None, strategy=strategy, score=0.0, reasons=[], left=0)
    first = left[0]
    return NextJson(
        case=SummaryJson.of(first.summary, volumes.is_stored(first.summary.places)),
        strategy=strategy,
        score=first.score.score,
        reasons=list(first.score.reasons),
        left=len(left),
    )


def _changed(review: Review, finding_id: str, act) -> FindingJson | JSONResponse:
    """What a change leads to; where it is refused for another's, what stands in its place."""
    try:
        found: ReviewedFinding = act()
    except (StaleRevisionError, NothingToUndoError) as error:
        problem = problem_of(error)
        present = FindingJson.of(review.store.finding(finding_id))
        told = problem.body() | {"present": present.model_dump(mode="json")}
        return JSONResponse(told, problem.status)
    return FindingJson.of(found)
