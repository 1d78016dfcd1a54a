"""Rows of cases and models, made where they are new.

Knows nothing about findings.
"""

from __future__ import annotations

import sqlite3

from bird_server.review.coding import geometry_text
from bird_server.review.records import ModelVersion, NewCase
from bird_vlm.contract import VolumeGeometry
from bird_vlm.errors import BadRequestError


def case_row_of(
    connection: sqlite3.Connection, case: NewCase, geometry: VolumeGeometry, time: str
) -> int:
    """Raises BadRequestError where the case is known with another geometry."""
    text = geometry_text(geometry)
    found = connection.execute(
        "SELECT id, geometry FROM cases WHERE volume_digest = ?", (case.volume_digest,)
    ).fetchone()
    if found is None:
        return connection.execute(
            "INSERT INTO cases (volume_digest, name, geometry, created) VALUES (?, ?, ?, ?)",
            (case.volume_digest, case.name, text, time),
        ).lastrowid
    if found["geometry"] != text:
        raise BadRequestError(
            f"volume_digest: {case.volume_digest} is known with another shape or position; "
            "it must be the digest of the very volume that was asked about"
        )
    connection.execute("UPDATE cases SET name = ? WHERE id = ?", (case.name, found["id"]))
    return found["id"]


def model_row_of(connection: sqlite3.Connection, model: ModelVersion) -> int:
    names = (model.id, model.version)
    connection.execute(
        "INSERT INTO models (name, version) VALUES (?, ?) ON CONFLICT DO NOTHING", names
    )
    found = connection.execute("SELECT id FROM models WHERE name = ? AND version = ?", names)
    return found.fetchone()["id"]
