"""What is asked of the review database: findings, histories, work lists, reports.

Reads only. Knows nothing about how changes are made.
"""

from __future__ import annotations

import sqlite3

from bird_server.review.errors import UnknownCaseError, UnknownFindingError
from bird_server.review.lists import WorkFilter, WorkPage
from bird_server.review.records import CaseReport, Event, Note, ReviewedFinding
from bird_server.review.rows import (
    ABSENCES,
    FINDINGS,
    absence_of,
    case_of,
    finding_of,
    history_of,
)
from bird_server.review.sources import CASES, places_of
from bird_vlm.labels import natural_name

_ORDERS = {
    "oldest": "f.id",
    "newest": "f.id DESC",
    "least certain": "s.score, f.id",
}


def finding(connection: sqlite3.Connection, finding_id: str) -> tuple[int, ReviewedFinding]:
    """A finding and its row id. Raises UnknownFindingError."""
    row = connection.execute(f"{FINDINGS} WHERE f.uid = ?", (finding_id,)).fetchone()
    if row is None:
        raise UnknownFindingError(f"finding_id: no finding has the id {finding_id[:80]!r}")
    return row["id"], finding_of(row)


def history(connection: sqlite3.Connection, finding_id: str) -> tuple[Event, ...]:
    return history_of(connection, finding(connection, finding_id)[0])


def case_row(connection: sqlite3.Connection, volume_digest: str) -> sqlite3.Row:
    """Raises UnknownCaseError."""
    row = connection.execute(f"{CASES} WHERE c.volume_digest = ?", (volume_digest,)).fetchone()
    if row is None:
        raise UnknownCaseError(
            f"case: nothing was proposed or drawn for the volume {volume_digest[:80]!r}; ask first"
        )
    return row


def work_list(connection: sqlite3.Connection, wanted: WorkFilter) -> WorkPage:
    where, values = _condition(wanted)
    total = connection.execute(f"SELECT count(*) FROM ({FINDINGS} {where})", values).fetchone()[0]
    found = connection.execute(
        f"{FINDINGS} {where} ORDER BY {_ORDERS[wanted.order]} LIMIT ? OFFSET ?",
        (*values, wanted.limit, wanted.offset),
    )
    return WorkPage(tuple(map(finding_of, found)), total)


def _condition(wanted: WorkFilter) -> tuple[str, tuple]:
    label = None if wanted.label is None else natural_name(wanted.label)
    named = {
        "c.volume_digest": wanted.volume_digest,
        "s.label_name": label,
        "m.name": wanted.model,
        "m.version": wanted.version,
        "s.reviewer": wanted.reviewer,
    }
    conditions = [f"{column} = ?" for column, value in named.items() if value is not None]
    values = [value for value in named.values() if value is not None]
    if wanted.statuses:
        conditions.append(f"s.status IN ({', '.join('?' * len(wanted.statuses))})")
        values += wanted.statuses
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), tuple(values)


def report(
    connection: sqlite3.Connection, volume_digest: str, time: str, histories: bool = True
) -> CaseReport:
    case = case_row(connection, volume_digest)
    rows = connection.execute(f"{FINDINGS} WHERE c.id = ? ORDER BY f.id", (case["id"],)).fetchall()
    absences = connection.execute(f"{ABSENCES} AND c.id = ? ORDER BY a.id", (case["id"],))
    notes = connection.execute(
        "SELECT reviewer, time, text FROM notes WHERE case_id = ? ORDER BY id", (case["id"],)
    )
    return CaseReport(
        case=case_of(case),
        findings=tuple(map(finding_of, rows)),
        histories={row["uid"]: history_of(connection, row["id"]) for row in rows if histories},
        absences=tuple(map(absence_of, absences)),
        notes=tuple(Note(**row) for row in notes),
        places=places_of(case),
        time=time,
    )


def last_note(connection: sqlite3.Connection, case: int) -> Note | None:
    row = connection.execute(
        "SELECT reviewer, time, text FROM notes WHERE case_id = ? ORDER BY id DESC LIMIT 1", (case,)
    ).fetchone()
    return None if row is None else Note(**row)
