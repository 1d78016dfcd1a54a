"""Volumes and answers for the tests of the review room."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone
from pathlib import Path

from bird_server.review.records import By, ModelVersion, NewCase, Proposal
from bird_server.review.store import ReviewStore
from bird_vlm.contract import BoxPixel, Finding, GroundingResult, Plane, SliceBox, VolumeGeometry
from bird_vlm.linking import roi_around
from bird_vlm.slices import slice_stack

MINI = ModelVersion("bird-mini", "0123456789abcdef")
GEOMETRY = VolumeGeometry(
    (40, 30, 20),
    ((-1.5, 0.0, 0.0, 30.0), (0.0, -1.5, 0.0, 25.0), (0.0, 0.0, 4.0, -40.0), (0.0, 0.0, 0.0, 1.0)),
)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def a_finding(
    label: str = "liver",
    first: int = 3,
    last: int = 6,
    box_pixel: BoxPixel = (4.0, 5.0, 14.0, 17.5),
    geometry: VolumeGeometry = GEOMETRY,
    plane: Plane = "axial",
    score: float = 0.8,
) -> Finding:
    """The same box on slices `first` to `last`."""
    stack = slice_stack(geometry, plane)
    boxes = tuple(
        SliceBox(index, score, box_pixel, stack.corners_ras(index, box_pixel))
        for index in range(first, last + 1)
    )
    return Finding(label, score, (first, last), roi_around(boxes, stack), boxes)


def a_proposal(
    *findings: Finding,
    digest: str = "d1",
    name: str = "scan.nii.gz",
    model: ModelVersion = MINI,
    absent: tuple[str, ...] = (),
    plane: Plane = "axial",
    geometry: VolumeGeometry = GEOMETRY,
) -> Proposal:
    result = GroundingResult(geometry, model.id, plane, (40.0, 400.0), findings, absent)
    return Proposal(NewCase(digest, name), model, result)


def a_store_in(folder: Path) -> ReviewStore:
    """A store whose clock ticks one second per look."""
    seconds = itertools.count()
    return ReviewStore(
        folder / "review.sqlite3", now=lambda: START + timedelta(seconds=next(seconds))
    )


def by(reviewer: str, revision: int, comment: str = "") -> By:
    return By(reviewer, revision, comment)
