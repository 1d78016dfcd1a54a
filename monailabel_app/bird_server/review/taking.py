"""Drawings that come from elsewhere, such as a saved label file, as decisions about findings.

A drawing that shows what a finding shows accepts it; one that overlaps it edits it; any other is a
finding drawn by hand. Knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bird_server.review.editing import drawn
from bird_server.review.errors import UnknownCaseError
from bird_server.review.matching import SAME_OBJECT, overlap
from bird_server.review.records import (
    By,
    Drawing,
    Edit,
    NewCase,
    Places,
    ReviewedFinding,
)
from bird_server.review.store import ReviewStore
from bird_vlm.contract import Roi, VolumeGeometry
from bird_vlm.labels import natural_name

_SAME_BOXES = 0.98  # mean overlap from which on nothing was changed
_SAME_MM = 0.5  # and distance of centres and edges


@dataclass
class Taken:
    """Finding ids by what became of them."""

    accepted: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)  # accepted before, and just so


def take_drawings(
    store: ReviewStore,
    case: NewCase,
    geometry: VolumeGeometry,
    places: Places,
    drawings: Iterable[Drawing],
    reviewer: str,
) -> Taken:
    """Each drawing becomes a decision of `reviewer`; a finding is taken for one drawing only.

    Raises BadRequestError for a drawing that does not fit the volume; those before it are stored.
    """
    taken, used = Taken(), set()
    for drawing in drawings:
        match = _match(_findings(store, case), drawing, geometry, used)
        if match is None:
            found, _ = store.add_finding(case, geometry, drawing, reviewer, places=places)
            taken.added.append(found.finding_id)
        else:
            found = match
            _decide(store, found, drawing, geometry, reviewer, taken)
        used.add(found.finding_id)
    return taken


def _findings(store: ReviewStore, case: NewCase) -> Sequence[ReviewedFinding]:
    try:
        return store.report(case.volume_digest, histories=False).findings
    except UnknownCaseError:
        return ()


def _match(
    findings: Iterable[ReviewedFinding], drawing: Drawing, geometry: VolumeGeometry, used: set[str]
) -> ReviewedFinding | None:
    """The finding of that label, not rejected, that overlaps most."""
    best, most = None, SAME_OBJECT
    for found in findings:
        if found.finding_id in used or found.status == "rejected":
            continue
        if natural_name(found.content.label) != natural_name(drawing.label):
            continue
        if drawing.boxes is not None and found.plane != drawing.plane:
            continue
        share = overlap(found.content, drawn(_in_plane_of(found, drawing), geometry))
        if share >= most:
            best, most = found, share
    return best


def _decide(
    store: ReviewStore,
    found: ReviewedFinding,
    drawing: Drawing,
    geometry: VolumeGeometry,
    reviewer: str,
    taken: Taken,
) -> None:
    by = By(reviewer, found.revision)
    if not _shows_the_same(found, drawing, geometry):
        edit = Edit(boxes=drawing.boxes, roi=drawing.roi)
        taken.edited.append(store.edit(found.finding_id, by, edit).finding_id)
    elif found.status == "proposed":
        taken.accepted.append(store.accept(found.finding_id, by).finding_id)
    else:
        taken.known.append(found.finding_id)


def _shows_the_same(found: ReviewedFinding, drawing: Drawing, geometry: VolumeGeometry) -> bool:
    if drawing.roi is not None:
        return _same_roi(found.content.roi, drawing.roi)
    new = drawn(_in_plane_of(found, drawing), geometry)
    same_slices = [b.slice for b in new.boxes] == [b.slice for b in found.content.boxes]
    return same_slices and overlap(found.content, new) >= _SAME_BOXES


def _same_roi(roi: Roi, other: Roi) -> bool:
    places = [np.r_[one.center_ras, one.size_mm] for one in (roi, other)]
    return np.allclose(*places, atol=_SAME_MM) and np.allclose(
        roi.axes_ras, other.axes_ras, atol=1e-2
    )


def _in_plane_of(found: ReviewedFinding, drawing: Drawing) -> Drawing:
    return Drawing(drawing.label, found.plane, drawing.boxes, drawing.roi)
