"""Where the files of cases lie: uploads by their ids, studies by their paths.

Knows nothing about the files themselves.
"""

from __future__ import annotations

import sqlite3

from bird_server.review.records import Places

_PLACES = """
    (SELECT place FROM sources WHERE case_id = c.id AND kind = 'upload'
        ORDER BY id DESC LIMIT 1) AS volume_id,
    (SELECT place FROM sources WHERE case_id = c.id AND kind = 'study'
        ORDER BY id DESC LIMIT 1) AS study
"""
CASES = f"SELECT c.*, {_PLACES} FROM cases c"


def write_places(connection: sqlite3.Connection, case: int, places: Places) -> None:
    """A file that has been overwritten with another scan belongs to that one's case from now on."""
    for kind, place in (("upload", places.volume_id), ("study", places.study)):
        if place is not None:
            connection.execute(
                "INSERT INTO sources (case_id, kind, place) VALUES (?, ?, ?)"
                " ON CONFLICT (kind, place) DO UPDATE SET case_id = excluded.case_id",
                (case, kind, place),
            )


def places_of(row: sqlite3.Row) -> Places:
    """A row of CASES."""
    return Places(row["volume_id"], row["study"])


def digest_of(connection: sqlite3.Connection, volume_id: str) -> str | None:
    """The case of an upload; None where nothing is known about it."""
    row = connection.execute(
        "SELECT c.volume_digest FROM sources s JOIN cases c ON c.id = s.case_id"
        " WHERE s.kind = 'upload' AND s.place = ?",
        (volume_id,),
    ).fetchone()
    return row and row["volume_digest"]


def uploads_in_review(connection: sqlite3.Connection) -> frozenset[str]:
    """The uploads about which somebody has accepted, edited or drawn something."""
    found = connection.execute(
        "SELECT place FROM sources WHERE kind = 'upload' AND case_id IN ("
        " SELECT f.case_id FROM findings f JOIN states s ON s.finding_id = f.id"
        " WHERE s.status IN ('accepted', 'edited'))"
    )
    return frozenset(row["place"] for row in found)
