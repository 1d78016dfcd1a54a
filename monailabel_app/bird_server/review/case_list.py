"""The list of cases: how far each is reviewed and what it lacks.

Reads only. Knows nothing about how changes are made.
"""

from __future__ import annotations

import sqlite3

from bird_server.review.lists import CaseFilter, CasePage, CaseSummary
from bird_server.review.records import STATUSES
from bird_server.review.rows import ABSENCES, case_of
from bird_server.review.sources import CASES, places_of
from bird_vlm.labels import natural_name

_LAST_EVENTS = """
    SELECT f.case_id, max(e.id) FROM findings f JOIN events e ON e.finding_id = f.id
    GROUP BY f.case_id
"""


def case_page(connection: sqlite3.Connection, wanted: CaseFilter) -> CasePage:
    fitting = [summary for summary in summaries(connection) if _fits(summary, wanted)]
    if wanted.order == "newest":
        fitting.reverse()
    elif wanted.order == "name":
        fitting.sort(key=lambda summary: summary.case.name.casefold())
    page = fitting[wanted.offset : wanted.offset + wanted.limit]
    return CasePage(tuple(page), len(fitting))


def summaries(connection: sqlite3.Connection) -> list[CaseSummary]:
    """All cases, the oldest first."""
    counts, missing = _counts(connection), _missing(connection)
    notes = dict(connection.execute("SELECT case_id, count(*) FROM notes GROUP BY case_id"))
    events = dict(connection.execute(_LAST_EVENTS))
    absences = dict(connection.execute("SELECT case_id, count(*) FROM absences GROUP BY case_id"))
    return [
        CaseSummary(
            case_of(row),
            {status: counts.get((row["id"], status), 0) for status in STATUSES},
            tuple(missing.get(row["id"], ())),
            notes.get(row["id"], 0),
            places_of(row),
            tuple(last.get(row["id"], 0) for last in (events, notes, absences)),
        )
        for row in connection.execute(f"{CASES} ORDER BY c.id")
    ]


def _counts(connection: sqlite3.Connection) -> dict[tuple[int, str], int]:
    found = connection.execute(
        "SELECT f.case_id, s.status, count(*) AS n FROM findings f"
        " JOIN states s ON s.finding_id = f.id GROUP BY f.case_id, s.status"
    )
    return {(row["case_id"], row["status"]): row["n"] for row in found}


def _missing(connection: sqlite3.Connection) -> dict[int, list[str]]:
    """Prompts that were answered absent and still are, by case."""
    missing: dict[int, list[str]] = {}
    for row in connection.execute(f"{ABSENCES} ORDER BY a.id"):
        prompts = missing.setdefault(row["case_id"], [])
        if row["prompt"] not in prompts:
            prompts.append(row["prompt"])
    return missing


def _fits(summary: CaseSummary, wanted: CaseFilter) -> bool:
    if wanted.unreviewed and not summary.counts["proposed"]:
        return False
    if wanted.any_missing and not summary.missing:
        return False
    if wanted.name and wanted.name.casefold() not in summary.case.name.casefold():
        return False
    missing = map(natural_name, summary.missing)
    return wanted.missing is None or natural_name(wanted.missing) in missing
