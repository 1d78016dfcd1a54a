"""The tables of the review store, and the steps from each earlier version to the next.

`PRAGMA user_version` counts the steps that a database has taken. A step that was released is never
edited: a change of the tables is a new step. Knows nothing about what the rows mean.

Every row has an integer key, so that a broken table can be read row by row (`recovery.py`).
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x42695244  # "BiRD"

_CASES_AND_FINDINGS = (
    """CREATE TABLE cases (
        id INTEGER PRIMARY KEY,
        volume_digest TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        geometry TEXT NOT NULL,  -- JSON of VolumeGeometry
        created TEXT NOT NULL
    )""",
    """CREATE TABLE models (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        UNIQUE (name, version)
    )""",
    """CREATE TABLE findings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL UNIQUE,
        case_id INTEGER NOT NULL REFERENCES cases (id),
        model_id INTEGER NOT NULL REFERENCES models (id),
        prompt TEXT NOT NULL,
        prompt_name TEXT NOT NULL,  -- natural_name(prompt)
        plane TEXT NOT NULL,
        level REAL,
        width REAL
    )""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        finding_id INTEGER NOT NULL REFERENCES findings (id),
        revision INTEGER NOT NULL CHECK (revision >= 1),
        kind TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('proposed', 'accepted', 'edited', 'rejected')),
        reviewer TEXT,
        time TEXT NOT NULL,
        comment TEXT NOT NULL,
        content TEXT,  -- JSON of Content; NULL = unchanged
        UNIQUE (finding_id, revision)
    )""",
    """CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'history is never changed'); END""",
    """CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'history is never removed'); END""",
    """CREATE TABLE states (  -- where a finding's events have led, written with each event
        finding_id INTEGER PRIMARY KEY REFERENCES findings (id),
        label_name TEXT NOT NULL,  -- natural_name(content.label)
        score REAL NOT NULL,
        status TEXT NOT NULL,
        revision INTEGER NOT NULL,
        reviewer TEXT,
        time TEXT NOT NULL,
        comment TEXT NOT NULL,
        content TEXT NOT NULL
    )""",
    "CREATE INDEX findings_by_question ON findings (case_id, model_id, prompt_name, plane)",
    "CREATE INDEX states_by_status ON states (status, finding_id)",
)
_ABSENCES_AND_NOTES = (
    """CREATE TABLE absences (
        id INTEGER PRIMARY KEY,
        case_id INTEGER NOT NULL REFERENCES cases (id),
        model_id INTEGER NOT NULL REFERENCES models (id),
        prompt TEXT NOT NULL,
        prompt_name TEXT NOT NULL,
        plane TEXT NOT NULL,
        time TEXT NOT NULL,
        UNIQUE (case_id, model_id, prompt_name, plane)
    )""",
    """CREATE TABLE notes (
        id INTEGER PRIMARY KEY,
        case_id INTEGER NOT NULL REFERENCES cases (id),
        reviewer TEXT NOT NULL,
        time TEXT NOT NULL,
        text TEXT NOT NULL
    )""",
)
_WORK_LISTS = (
    "CREATE INDEX states_by_label ON states (label_name, finding_id)",
    "CREATE INDEX notes_by_case ON notes (case_id, id)",
)
_SOURCES = (
    """CREATE TABLE sources (
        id INTEGER PRIMARY KEY,
        case_id INTEGER NOT NULL REFERENCES cases (id),
        kind TEXT NOT NULL CHECK (kind IN ('upload', 'study')),
        place TEXT NOT NULL,  -- volume id of an upload, or path within the studies folder
        UNIQUE (kind, place)
    )""",
    "CREATE INDEX sources_by_case ON sources (case_id, kind, id)",
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _CASES_AND_FINDINGS,
    _ABSENCES_AND_NOTES,
    _WORK_LISTS,
    _SOURCES,
)
VERSION = len(MIGRATIONS)
TABLES = (  # parents first
    *("cases", "models", "findings", "events", "states", "absences", "notes", "sources"),
)


def version_of(connection: sqlite3.Connection) -> int:
    """The steps that a database has taken; 0 = none."""
    return connection.execute("PRAGMA user_version").fetchone()[0]


def is_foreign(connection: sqlite3.Connection) -> bool:
    """Whether a database with tables was made by another program."""
    made_by = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return made_by != APPLICATION_ID and tables > 0


def migrate(connection: sqlite3.Connection, version: int = VERSION) -> None:
    """Takes the missing steps up to `version`; the caller holds a transaction."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for step in MIGRATIONS[version_of(connection) : version]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
