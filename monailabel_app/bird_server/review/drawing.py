"""Findings that a reviewer adds by hand, into the database: accepted from the start.

Knows nothing about files.
"""

from __future__ import annotations

import re
import sqlite3
import uuid

from bird_server.review import queries
from bird_server.review.case_rows import case_row_of, model_row_of
from bird_server.review.editing import drawn
from bird_server.review.errors import UnknownFindingError
from bird_server.review.records import DRAWN_BY_HAND, Drawing, Event, NewCase, Places
from bird_server.review.replay import after
from bird_server.review.rows import write_event, write_state
from bird_server.review.sources import write_places
from bird_vlm.contract import Plane, VolumeGeometry
from bird_vlm.errors import BadRequestError
from bird_vlm.labels import natural_name

_FINDING_ID = re.compile(r"[0-9a-f]{32}")


def write_drawing(
    connection: sqlite3.Connection,
    case: NewCase,
    geometry: VolumeGeometry,
    places: Places,
    drawing: Drawing,
    event: tuple[str, str, str],
) -> tuple[str, bool]:
    """The id of the finding, and whether it is new; `event` is reviewer, comment and time.

    Raises BadRequestError for boxes or an ROI that do not fit the volume, and for the id of a
    finding of another case.
    """
    reviewer, comment, time = event
    content = drawn(drawing, geometry)
    uid = _id_of(drawing)
    if _is_known(connection, uid, case):
        return uid, False
    case_row = case_row_of(connection, case, geometry, time)
    write_places(connection, case_row, places)
    row = _write_finding(connection, uid, case_row, content.label, drawing.plane)
    added = Event(1, "added", "accepted", reviewer, time, comment, content)
    write_event(connection, row, added)
    write_state(connection, row, after(content, added))
    return uid, True


def _id_of(drawing: Drawing) -> str:
    uid = drawing.finding_id or uuid.uuid4().hex
    if not _FINDING_ID.fullmatch(uid):
        raise BadRequestError(f"finding_id: needs 32 hex digits, got {uid[:40]!r}")
    return uid


def _write_finding(
    connection: sqlite3.Connection, uid: str, case_row: int, label: str, plane: Plane
) -> int:
    """The row of a finding that is drawn by hand."""
    by_hand = model_row_of(connection, DRAWN_BY_HAND)
    return connection.execute(
        "INSERT INTO findings (uid, case_id, model_id, prompt, prompt_name, plane)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (uid, case_row, by_hand, label, natural_name(label), plane),
    ).lastrowid


def _is_known(connection: sqlite3.Connection, uid: str, case: NewCase) -> bool:
    try:
        _, found = queries.finding(connection, uid)
    except UnknownFindingError:
        return False
    if found.case.volume_digest != case.volume_digest or not found.by_hand:
        raise BadRequestError(f"finding_id: {uid} is another finding; choose a new one")
    return True
