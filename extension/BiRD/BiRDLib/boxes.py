"""Boxes of one volume as slice views need them: which a view cuts, and where to draw those.

World positions are those of the volume's parent transform at the time of making. Knows nothing
about the nodes that show the boxes, nor where the boxes are stored.
"""

from collections import namedtuple
from itertools import groupby

import numpy as np

from . import scene as geometry

_PARALLEL = 0.99  # cosine between view and slice normal, above which a view faces the slices
_ROOM = 0.2  # of the view's width; left of that, words to the left would leave the view

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
        self._slabs = slabs
        self._corners = geometry.cornersWorld(volume, *slabs)
        planes = {entry.plane for entry in entries}
        normals = {plane: geometry.sliceNormalWorld(volume, plane) for plane in planes}
        self._normals = np.array([normals[entry.plane] for entry in entries]).reshape(-1, 3)

    def captionOn(self, index, frame):
        """(world position, leftwards) of a box's words, above it on the view's plane.

        On the view's left half they run leftwards from the box's right corner where there is room,
        so that the words of a left and a right organ do not meet.
        """
        in_view = (self._corners[index] - frame.middle) @ frame.axes  # (8, 3): right, up, out
        left, right, top = in_view[:, 0].min(), in_view[:, 0].max(), in_view[:, 1].max()
        leftwards = left + right < 0 and right > -_ROOM * frame.width_mm
        corner = frame.middle + frame.axes @ [right if leftwards else left, top, 0.0]
        return corner, bool(leftwards)

    def _cut(self, frame):
        """Which boxes the view's plane cuts; a plane between two slices cuts one of them."""
        distance = (self._corners - frame.middle) @ frame.axes[:, 2]  # (boxes, 8)
        return (distance.min(axis=1) <= 0) & (distance.max(axis=1) > 0)

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

    def crossedBy(self, frame):
        """Indices of the boxes on the slice that a view (scene.Frame) shows."""
        return np.flatnonzero(self._cut(frame) & self._faced(frame)).tolist()

    def placeOn(self, index, frame):
        """(center_ras, size_mm, axes_ras), moved within the slice onto the view's plane.

        There the outline is whole, wherever within the slice the view stands.
        """
        center_ras, size_mm, axes_ras = (part[index] for part in self._slabs)
        corners = self._corners[index]
        thin = corners[1] - corners[0]  # the slab's last axis varies first
        normal = frame.axes[:, 2]
        depth = (frame.middle - corners.mean(axis=0)) @ normal / (thin @ normal)  # -0.5..0.5
        return center_ras + depth * size_mm[2] * axes_ras[:, 2], size_mm, axes_ras


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
        """Indices of the boxes that a view cuts across the slices they were found on."""
        across = ~self._faced(frame) | self._moved
        return np.flatnonzero(self._cut(frame) & across).tolist()

    def placeOn(self, index, frame):
        """(center_ras, size_mm, axes_ras), the same in every view."""
        return tuple(part[index] for part in self._slabs)


def _joined(slabs):
    return [np.concatenate(parts) for parts in _turned(slabs)] or _NO_SLABS


def _turned(triples):
    """All centers, all sizes, all axes."""
    return zip(*triples)  # noqa: B905 - Python 3.9 has no `strict`
