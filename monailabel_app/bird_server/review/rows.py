"""Rows of the database as records, and events and states as rows.

The only place that knows both the columns and the records.
"""

from __future__ import annotations

import sqlite3
from dataclasses import fields

from bird_server.review.coding import content_from, content_text, geometry_from
from bird_server.review.records import Absence, Case, Event, ModelVersion, ReviewedFinding
from bird_server.review.replay import State
from bird_server.review.undoing import steps_left
from bird_vlm.labels import natural_name

FINDINGS = """
    SELECT f.*, s.*, m.name AS model_name, m.version,
        c.volume_digest, c.name, c.geometry, c.created,
        (SELECT group_concat(kind) FROM (
            SELECT kind FROM events WHERE finding_id = f.id ORDER BY revision)) AS kinds
    FROM findings f
    JOIN states s ON s.finding_id = f.id
    JOIN models m ON m.id = f.model_id
    JOIN cases c ON c.id = f.case_id
"""
ABSENCES = """
    SELECT a.*, m.name AS model_name, m.version, c.volume_digest, c.name, c.geometry, c.created
    FROM absences a
    JOIN models m ON m.id = a.model_id
    JOIN cases c ON c.id = a.case_id
    WHERE NOT EXISTS (
        SELECT 1 FROM findings f JOIN states s ON s.finding_id = f.id
        WHERE f.case_id = a.case_id AND s.status <> 'rejected'
            AND a.prompt_name IN (f.prompt_name, s.label_name)
    )
"""


def case_of(row: sqlite3.Row) -> Case:
    return Case(row["volume_digest"], row["name"], geometry_from(row["geometry"]), row["created"])


def finding_of(row: sqlite3.Row) -> ReviewedFinding:
    """A row of FINDINGS."""
    undoable, redoable = steps_left((row["kinds"] or "").split(","))
    return ReviewedFinding(
        finding_id=row["uid"],
        case=case_of(row),
        model=ModelVersion(row["model_name"], row["version"]),
        prompt=row["prompt"],
        plane=row["plane"],
        window=None if row["level"] is None else (row["level"], row["width"]),
        content=content_from(row["content"]),
        status=row["status"],
        revision=row["revision"],
        reviewer=row["reviewer"],
        time=row["time"],
        comment=row["comment"],
        undoable=undoable,
        redoable=redoable,
    )


def absence_of(row: sqlite3.Row) -> Absence:
    """A row of ABSENCES."""
    model = ModelVersion(row["model_name"], row["version"])
    return Absence(case_of(row), model, row["prompt"], row["plane"], row["time"])


def event_of(row: sqlite3.Row) -> Event:
    content = None if row["content"] is None else content_from(row["content"])
    told = {name.name: row[name.name] for name in fields(Event) if name.name != "content"}
    return Event(**told, content=content)


def history_of(connection: sqlite3.Connection, finding_row: int) -> tuple[Event, ...]:
    found = connection.execute(
        "SELECT * FROM events WHERE finding_id = ? ORDER BY revision", (finding_row,)
    )
    return tuple(map(event_of, found))


def write_event(connection: sqlite3.Connection, finding_row: int, event: Event) -> None:
    content = None if event.content is None else content_text(event.content)
    _insert(
        connection,
        "INSERT INTO events",
        finding_id=finding_row,
        revision=event.revision,
        kind=event.kind,
        status=event.status,
        reviewer=event.reviewer,
        time=event.time,
        comment=event.comment,
        content=content,
    )


def write_state(connection: sqlite3.Connection, finding_row: int, state: State) -> None:
    _insert(
        connection,
        "INSERT OR REPLACE INTO states",
        finding_id=finding_row,
        label_name=natural_name(state.content.label),
        score=state.content.score,
        status=state.status,
        revision=state.revision,
        reviewer=state.reviewer,
        time=state.time,
        comment=state.comment,
        content=content_text(state.content),
    )


def _insert(connection: sqlite3.Connection, into: str, **columns: object) -> None:
    marks = ", ".join("?" * len(columns))
    statement = f"{into} ({', '.join(columns)}) VALUES ({marks})"
    connection.execute(statement, tuple(columns.values()))
