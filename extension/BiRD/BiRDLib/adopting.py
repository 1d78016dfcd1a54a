"""Findings that come from elsewhere than an answer: from the server's store, or drawn by hand.

Knows nothing about HTTP.
"""

from . import scene as geometry
from .answers import Box, Finding
from .errors import UnusableInput
from .i18n import tr as _
from .notes import replace_notes
from .places import Place, same_place
from .statuses import ABSENT, ACCEPTED, TOLD, UNTOLD

CASE = "BiRD.case"  # attribute of a table: what the server's store calls the volume
BY_HAND = 1.0  # the score of what a person drew


def adopt(findings, volume, case):
    """Takes a cases.Case into the scene; what is here already follows the store.

    Decisions made here that the store has not heard of stay as they are.
    """
    table = findings.table(volume, create=True)
    table.SetAttribute(CASE, case.summary.volume_digest)
    here = {row.server_id: row for row in findings.rows(table) if row.server_id}
    for found in case.findings:
        row = here.get(found.finding_id)
        if row is not None and row.told != UNTOLD:
            take_news(findings, table, row.finding, found)
    new = [found for found in case.findings if found.finding_id not in here]
    absent = [row.label for row in findings.rows(table) if row.status == ABSENT]
    missing = [entry for entry in case.absences if entry[0] not in absent]
    if new or missing:
        findings.store(
            volume,
            _("review of {}").format(case.summary.name),
            [(found.finding, _columns(found)) for found in new],
            [(label, {"plane": plane, "model": model}) for label, plane, model in missing],
        )
    replace_notes(table, case.notes)
    return table


def take_news(findings, table, key, found):
    """Makes a finding here what the store's StoredFinding says."""
    place = findings.place(table, key)
    if place is not None and not same_place(place, found.place):
        findings.setPlace(table, key, found.place)
    label = {} if findings.row(table, key).label == found.finding.label else {
        "label": found.finding.label
    }  # fmt: skip
    findings.change(table, key, **label, **_review(found))


def add_by_hand(findings, volume, roi, label, plane, reviewer):
    """A finding where the user drew an ROI, accepted at once; returns its own ROI node."""
    label = " ".join(label.split())
    if not label:
        raise UnusableInput(_("The finding needs a name."), _("Write what it is."))
    boxes = tuple(
        Box(label, index, BY_HAND, tuple(map(tuple, corners.tolist())))
        for index, corners in geometry.boxesOnSlices(volume, plane, roi)
    )
    place = Place(*geometry.boundsOfRoi(volume, roi))
    slices = (boxes[0].slice, boxes[-1].slice)
    finding = Finding(label, BY_HAND, slices, *place, boxes)
    columns = {"plane": plane, "model": "", "status": ACCEPTED, "reviewer": reviewer}
    (own,) = findings.store(
        volume, _("by hand: {}").format(label), [(finding, dict(columns, told=UNTOLD))]
    )
    return own


def _columns(found):
    return {"plane": found.plane, "model": found.model, **_review(found)}


def _review(found):
    return {
        "status": found.status,
        "comment": found.comment,
        "reviewer": found.reviewer,
        "server_id": found.finding_id,
        "revision": found.revision,
        "told": TOLD,
    }
