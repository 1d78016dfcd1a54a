"""The boxes of a scene's findings as slice views need them, made anew only after a change.

A view shows boxes of the volumes in its layers, of findings whose ROI is visible: the slice boxes
where it faces the slices that were asked, elsewhere the findings' 3D boxes. Knows nothing about
what draws them, nor when that is.
"""

import numpy as np

from .boxes import FindingBoxes, SliceBoxes
from .rows import drawn_stamp
from .statuses import least_score

MOST_SHOWN = 64  # outlines in one view; nobody tells more apart, and scrolling stays smooth


class Stock:
    """Boxes of all findings tables, and of the preview of a question in flight.

    `threshold`: undecided ones below it, 0..1, do not show; `favoured`: the key of the finding that
    shows whatever else does; `preview`: SliceBoxes, or None.
    """

    def __init__(self, findings):
        self.favoured = self.preview = None
        self._findings = findings
        self._threshold = 0.0
        self.forget()

    @property
    def threshold(self):
        return self._threshold

    @threshold.setter
    def threshold(self, threshold):
        self._threshold = threshold
        self._allowed = {}

    def forget(self):
        """Everything is made anew: tables came, went or hold other boxes."""
        self._stamps = {}  # table node ID -> drawn_stamp when its boxes were made
        self._slices = {}  # table node ID -> SliceBoxes
        self.forgetWholes()

    def forgetWholes(self):
        """The 3D boxes of findings were moved or renamed."""
        self._wholes = {}  # table node ID -> FindingBoxes
        self.forgetAllowed()

    def forgetAllowed(self):
        """Findings were shown, hidden, or decided upon."""
        self._allowed = {}  # table node ID -> which of its SliceBoxes and FindingBoxes may show

    def isStale(self, table):
        """Whether a table holds other boxes than when they were made."""
        return self._stamps.get(table.GetID()) != drawn_stamp(table)

    def making(self):
        """Makes what `crossed` needs, in steps."""
        for table, volume in self._tables():
            yield self._slicesOf(table, volume)
            yield self._boxesOf(table, volume)

    def crossed(self, volume_ids, frame):
        """[(boxes, index)] of what a view (views.Frame) of these volumes shows, the surest of many.

        At most MOST_SHOWN.
        """
        found = []
        for table, volume in self._tables():
            if volume.GetID() in volume_ids:
                boxes = self._boxesOf(table, volume)
                for own, allowed in zip(boxes, self._allowedOf(table, boxes)):  # noqa: B905
                    found += _those(own, own.crossedBy(frame) & allowed)
        if self.preview is not None and self.preview.volume.GetID() in volume_ids:
            found += _those(self.preview, self.preview.crossedBy(frame))
        if len(found) > MOST_SHOWN:
            found.sort(key=self._weight, reverse=True)
        return found[:MOST_SHOWN]

    def _tables(self):
        pairs = ((table, self._findings.volume(table)) for table in self._findings.tables())
        return [(table, volume) for table, volume in pairs if volume is not None]

    def _weight(self, crossed):
        boxes, n = crossed
        entry = boxes.entries[n]
        return entry.finding == self.favoured, entry.score

    def _allowedOf(self, table, boxes):
        """Bool arrays: which SliceBoxes, which FindingBoxes of a table may show."""
        key = table.GetID()
        if key not in self._allowed:
            slices, wholes = boxes
            least = self._leastScores(table)
            self._allowed[key] = [
                _allowed(slices.entries, least, wholes.moved),
                _allowed(wholes.entries, least),
            ]
        return self._allowed[key]

    def _leastScores(self, table):
        """Finding key -> the score from which its boxes show; those that show none are left out."""
        statuses = {row.finding: row.status for row in self._findings.rows(table)}
        visible = visibleFindings(self._findings.rois(table)) & statuses.keys()
        least = {key: least_score(statuses[key], self._threshold) for key in visible}
        return {key: score for key, score in least.items() if score is not None}

    def _boxesOf(self, table, volume):
        """(SliceBoxes, FindingBoxes) of a table."""
        key = table.GetID()
        if key not in self._wholes:
            rois = self._findings.rois(table)
            first = {
                row.finding: row for row in reversed(self._boxed(table)) if row.finding in rois
            }
            moved = self._findings.moved(table)
            self._wholes[key] = FindingBoxes(volume, rois, list(first.values()), moved)
        return self._slicesOf(table, volume), self._wholes[key]

    def _slicesOf(self, table, volume):
        key = table.GetID()
        if key not in self._slices:
            self._stamps[key] = drawn_stamp(table)
            self._slices[key] = SliceBoxes(volume, self._boxed(table))
        return self._slices[key]

    def _boxed(self, table):
        return [row for row in self._findings.rows(table) if row.corners_ras is not None]


def visibleFindings(rois):
    """Keys of the findings whose ROI exists and is shown."""
    return {key for key, roi in rois.items() if roi.GetDisplayVisibility()}


def _allowed(entries, least_scores, but=frozenset()):
    """Which entries (n,) reach their finding's least score, without those of findings in `but`."""
    never = float("inf")
    return np.array(
        [
            entry.finding not in but and entry.score >= least_scores.get(entry.finding, never)
            for entry in entries
        ],
        dtype=bool,
    )


def _those(boxes, chosen):
    return [(boxes, n) for n in np.flatnonzero(chosen).tolist()]
