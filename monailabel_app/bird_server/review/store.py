"""The review store: proposals in, people's decisions on them, and lists of what is left to do.

Every change is one transaction: an event is added to the finding's history, and its state is
written beside. Knows nothing about pictures, exports or HTTP.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from bird_server.review import queries, sources
from bird_server.review.case_list import case_page, summaries
from bird_server.review.checks import check_name, check_text
from bird_server.review.database import BUSY_TIMEOUT_S, Database
from bird_server.review.drawing import write_drawing
from bird_server.review.editing import edited
from bird_server.review.errors import StaleRevisionError
from bird_server.review.lists import (
    MAX_PAGE,
    CaseFilter,
    CasePage,
    CaseSummary,
    WorkFilter,
    WorkPage,
)
from bird_server.review.proposing import write_proposal
from bird_server.review.records import (
    NOWHERE,
    By,
    CaseReport,
    Content,
    Drawing,
    Edit,
    Event,
    EventKind,
    NewCase,
    Note,
    Places,
    Proposal,
    Proposed,
    ReviewedFinding,
    Status,
)
from bird_server.review.recovery import Recovery
from bird_server.review.replay import after
from bird_server.review.rows import write_event, write_state
from bird_server.review.sources import write_places
from bird_server.review.undoing import Step, stepped
from bird_vlm.contract import VolumeGeometry
from bird_vlm.errors import BadRequestError

FILE_NAME = "review.sqlite3"
_LEADS_TO: dict[EventKind, Status] = {
    "accepted": "accepted",
    "edited": "edited",
    "rejected": "rejected",
    "reopened": "proposed",
}


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class ReviewStore:
    """Findings and what people made of them; safe for many threads and processes at once.

    Any method raises StoreBusyError, StoreWriteError or DamagedStoreError; a change that raises
    is not stored, not even in part.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], datetime] = utc_now,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self._database = Database(path, busy_timeout_s)
        self._now = now

    @property
    def recovery(self) -> Recovery | None:
        """What was found broken and recovered on opening; None = nothing."""
        return self._database.recovery

    def close(self) -> None:
        """At the server's end; leaves one file, without a log beside it."""
        self._database.close()

    def propose(self, proposal: Proposal) -> Proposed:
        """Stores a model's answer; asking again stores nothing twice and touches no review."""
        with self._database.writing() as connection:
            return write_proposal(connection, proposal, self._time())

    def accept(self, finding_id: str, by: By) -> ReviewedFinding:
        """Raises UnknownFindingError, StaleRevisionError, as do the next three.

        An edited finding that is accepted stays edited in its boxes; its status says accepted.
        """
        return self._review(finding_id, by, "accepted")

    def reject(self, finding_id: str, by: By) -> ReviewedFinding:
        return self._review(finding_id, by, "rejected")

    def reopen(self, finding_id: str, by: By) -> ReviewedFinding:
        """Back among the unreviewed, with its present boxes."""
        return self._review(finding_id, by, "reopened")

    def edit(self, finding_id: str, by: By, edit: Edit) -> ReviewedFinding:
        """Changes label, boxes or ROI; the original stays in the history.

        Raises BadRequestError for an edit that does not fit the volume or changes nothing.
        """
        return self._review(finding_id, by, "edited", edit)

    def undo(self, finding_id: str, by: By) -> ReviewedFinding:
        """As before the last change that a person made. Raises also NothingToUndoError."""
        return self._step(finding_id, by, "undone")

    def redo(self, finding_id: str, by: By) -> ReviewedFinding:
        """As before the last undo. Raises also NothingToUndoError."""
        return self._step(finding_id, by, "redone")

    def add_finding(
        self,
        case: NewCase,
        geometry: VolumeGeometry,
        drawing: Drawing,
        reviewer: str,
        comment: str = "",
        places: Places = NOWHERE,
    ) -> tuple[ReviewedFinding, bool]:
        """A finding drawn by hand, accepted from the start, and whether it is new.

        Makes the case where it is new. Raises BadRequestError for a drawing that does not fit.
        """
        check_name("reviewer", reviewer)
        check_text("comment", comment)
        with self._database.writing() as connection:
            told = (reviewer, comment, self._time())
            uid, is_new = write_drawing(connection, case, geometry, places, drawing, told)
            return queries.finding(connection, uid)[1], is_new

    def add_note(self, volume_digest: str, reviewer: str, text: str) -> Note:
        """Stores a remark, but not the case's last one again. Raises UnknownCaseError."""
        check_name("reviewer", reviewer)
        check_text("text", text, least=1)
        with self._database.writing() as connection:
            case = queries.case_row(connection, volume_digest)
            last = queries.last_note(connection, case["id"])
            if last and (last.reviewer, last.text) == (reviewer, text):
                return last
            note = Note(reviewer, self._time(), text)
            connection.execute(
                "INSERT INTO notes (case_id, reviewer, time, text) VALUES (?, ?, ?, ?)",
                (case["id"], note.reviewer, note.time, note.text),
            )
        return note

    def finding(self, finding_id: str) -> ReviewedFinding:
        """Raises UnknownFindingError."""
        with self._database.reading() as connection:
            return queries.finding(connection, finding_id)[1]

    def history(self, finding_id: str) -> tuple[Event, ...]:
        """All events, the oldest first. Raises UnknownFindingError."""
        with self._database.reading() as connection:
            return queries.history(connection, finding_id)

    def work_list(self, wanted: WorkFilter) -> WorkPage:
        with self._database.reading() as connection:
            return queries.work_list(connection, wanted)

    def cases(self, wanted: CaseFilter | None = None) -> CasePage:
        with self._database.reading() as connection:
            return case_page(connection, wanted or CaseFilter(limit=MAX_PAGE))

    def summaries(self) -> tuple[CaseSummary, ...]:
        """All cases, the oldest first, on one page."""
        with self._database.reading() as connection:
            return tuple(summaries(connection))

    def add_places(self, volume_digest: str, places: Places) -> None:
        """Notes where the file of a case lies. Raises UnknownCaseError."""
        with self._database.writing() as connection:
            write_places(connection, queries.case_row(connection, volume_digest)["id"], places)

    def digest_of(self, volume_id: str) -> str | None:
        """The volume digest of an upload; None where nothing was proposed or drawn for it."""
        with self._database.reading() as connection:
            return sources.digest_of(connection, volume_id)

    def uploads_in_review(self) -> frozenset[str]:
        """Volume ids of the uploads that are worth keeping: somebody has reviewed them."""
        with self._database.reading() as connection:
            return sources.uploads_in_review(connection)

    def report(self, volume_digest: str, histories: bool = True) -> CaseReport:
        """All that is known about a case at one moment. Raises UnknownCaseError."""
        with self._database.reading() as connection:
            return queries.report(connection, volume_digest, self._time(), histories)

    def _review(
        self, finding_id: str, by: By, kind: EventKind, edit: Edit | None = None
    ) -> ReviewedFinding:
        with self._database.writing() as connection:
            row, found = queries.finding(connection, finding_id)
            _check_revision(found, by)
            content = _edited(found, edit)
            event = Event(
                revision=found.revision + 1,
                kind=kind,
                status=_LEADS_TO[kind],
                reviewer=by.reviewer,
                time=self._time(),
                comment=by.comment,
                content=content,
            )
            self._write(connection, row, found, event)
            return queries.finding(connection, finding_id)[1]

    def _step(self, finding_id: str, by: By, step: Step) -> ReviewedFinding:
        with self._database.writing() as connection:
            row, found = queries.finding(connection, finding_id)
            _check_revision(found, by)
            target = stepped(queries.history(connection, finding_id), step)
            event = Event(
                revision=found.revision + 1,
                kind=step,
                status=target.status,
                reviewer=by.reviewer,
                time=self._time(),
                comment=by.comment,
                content=None if target.content == found.content else target.content,
            )
            self._write(connection, row, found, event)
            return queries.finding(connection, finding_id)[1]

    def _write(
        self, connection: sqlite3.Connection, row: int, found: ReviewedFinding, event: Event
    ) -> None:
        write_event(connection, row, event)
        write_state(connection, row, after(found.content, event))

    def _time(self) -> str:
        return self._now().astimezone(timezone.utc).isoformat(timespec="milliseconds")


def _edited(found: ReviewedFinding, edit: Edit | None) -> Content | None:
    if edit is None:
        return None
    return edited(found.content, edit, found.case.geometry, found.plane)


def _check_revision(found: ReviewedFinding, by: By) -> None:
    if by.revision == found.revision:
        return
    if by.revision > found.revision:
        raise BadRequestError(
            f"revision: the finding is at revision {found.revision}, got {by.revision}"
        )
    who = found.reviewer or f"the model {found.model.id}"
    raise StaleRevisionError(
        f"revision: {who} changed this finding at {found.time} (now {found.status}, revision "
        f"{found.revision}, yours was {by.revision}); load it again and decide anew",
        found.revision,
    )
