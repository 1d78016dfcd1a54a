"""Boxes of one volume as slice views need them: which a view cuts, and where to draw those.

World positions are those of the volume's parent transform at the time of making. Knows nothing
about the nodes that show the boxes, nor where the boxes are stored.
"""

from collections import namedtuple
from itertools import groupby

import numpy as np

from . import scene as geometry
from .colors import label_color
from .outline import Outlines, cut

_PARALLEL = 0.99  # cosine between view and slice normal, above which a view faces the slices
_LOW_FACE = [0, 2, 6, 4]  # corners of a slab around one of its faces

# finding: key; words: the caption; plane: of the slices that the box was found on; score: 0..1
Entry = namedtuple("Entry", "finding label words plane score")
_CAPTION = "{0.label} {0.score:.2f}"
_NO_SLABS = [np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3))]


class Boxes:
    """Oriented boxes, described by `entries`.

    `slabs`: their centers_ras (n, 3), sizes_mm (n, 3) and axes_ras (n, 3, 3).
    """

    def __init__(self, volume, entries, slabs):
        self.volume = volume
        self.entries = entries
        self._corners = geometry.cornersWorld(volume, *slabs)
        planes = {entry.plane for entry in entries}
        normals = {plane: geometry.sliceNormalWorld(volume, plane) for plane in planes}
        self._normals = np.array([normals[entry.plane] for entry in entries]).reshape(-1, 3)

    def _faced(self, frame):
        return np.abs(self._normals @ frame.axes[:, 2]) > _PARALLEL


class SliceBoxes(Boxes):
    """Boxes on single slices, one slice spacing thick: for views that face the slices.

    `rows` are findings.Row, or anything with the same fields.
    """

    def __init__(self, volume, rows):
        entries, slabs = [], []
        rows = sorted(rows, key=lambda row: row.plane)
        for plane, of_plane in groupby(rows, lambda row: row.plane):
            own = list(of_plane)
            entries += [
                Entry(row.finding, row.label, _CAPTION.format(row), plane, row.score) for row in own
            ]
            corners = [row.corners_ras for row in own]
            slabs.append(geometry.slabsOfSliceBoxes(volume, plane, corners))
        super().__init__(volume, entries, _joined(slabs))
        self._middles = self._corners.mean(axis=1)
        self._thin = self._corners[:, 1] - self._corners[:, 0]  # a slab's last axis varies first

    def crossedBy(self, frame):
        """Which boxes (n,) are on the slice that a view shows.

        A view that stands between two slices shows one of them.
        """
        distance = (self._middles - frame.middle) @ frame.axes[:, 2]
        reach = np.abs(self._thin @ frame.axes[:, 2]) / 2
        return (-reach < distance) & (distance <= reach) & self._faced(frame)

    def around(self, indices, frame):
        """Corners (n, 4, 3) of boxes in their slice, moved within it onto the view's plane.

        There an outline is whole, wherever within the slice the view stands.
        """
        thin, normal = self._thin[indices], frame.axes[:, 2]
        depths = ((frame.middle - self._middles[indices]) @ normal) / (thin @ normal)  # -0.5..0.5
        faces = self._corners[indices][:, _LOW_FACE]
        return faces + ((0.5 + depths)[:, None] * thin)[:, None]


class FindingBoxes(Boxes):
    """3D boxes of findings, as their ROI nodes stand: for views that cut across the slices.

    `rows` holds a Row of each finding, `rois` the nodes by the finding's key. Those in `moved` are
    no longer around their slice boxes and stand for themselves in every view.
    """

    def __init__(self, volume, rois, rows, moved=frozenset()):
        entries = [
            Entry(row.finding, row.label, rois[row.finding].GetName(), row.plane, row.whole_score)
            for row in rows
        ]
        boxes = [geometry.boxOfNode(rois[row.finding]) for row in rows]
        super().__init__(volume, entries, [np.array(part) for part in _turned(boxes)] or _NO_SLABS)
        self.moved = moved
        self._moved = np.array([row.finding in moved for row in rows], dtype=bool)

    def crossedBy(self, frame):
        """Which boxes (n,) a view cuts across the slices they were found on."""
        across = ~self._faced(frame) | self._moved
        if across.any():  # none, where a view scrolls through the slices that were asked
            distance = (self._corners - frame.middle) @ frame.axes[:, 2]  # (n, 8)
            across &= (distance.min(axis=1) <= 0) & (distance.max(axis=1) > 0)
        return across

    def around(self, indices, frame):
        """Corners ((k, 3) each) of where the view's plane meets boxes."""
        return [cut(self._corners[index], frame) for index in indices]


def outlines_of(crossed, frame):
    """Outlines of (boxes, index) in a view (views.Frame) that each is crossed by."""
    entries = [boxes.entries[n] for boxes, n in crossed]
    around = []
    for boxes, own in groupby(crossed, lambda pair: pair[0]):
        around += list(boxes.around([n for _boxes, n in own], frame))
    colors = [label_color(entry.label) for entry in entries]
    return Outlines([entry.words for entry in entries], colors, around)


def _joined(slabs):
    return [np.concatenate(parts) for parts in _turned(slabs)] or _NO_SLABS


def _turned(triples):
    """All centers, all sizes, all axes."""
    return zip(*triples)  # noqa: B905 - Python 3.9 has no `strict`
