"""The outlines of one slice view and their words: one model node, written in one go.

However many boxes, Slicer hears of one change; a node per box costs it ten times a slice. Knows
nothing about which boxes belong there.
"""

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

from .boxes import outlines_of
from .captions import FONT_SIZE, pixels_of, places

_COLORS = "Colors"
_LINE_WIDTH = 2


class Drawing:
    """A model that only `view` shows, that no list offers and that is never saved."""

    def __init__(self, scene, view):
        self.outlines = outlines_of([], None)
        self._mesh = vtk.vtkPolyData()
        self._model = _hiddenModel(scene, view, self._mesh)
        self._drawn = None  # crossed, frame of the last `show`

    def show(self, crossed, frame):
        """Draws (boxes, index) of Boxes, where a view (views.Frame) meets them."""
        if self._stands(crossed, frame):
            return
        self._drawn = crossed, frame
        before, self.outlines = self.outlines, outlines_of(crossed, frame)
        if before or self.outlines:
            modifying = self._model.StartModify()
            self._mesh.ShallowCopy(_meshOf(self.outlines, frame))
            self._model.EndModify(modifying)

    def isIn(self, scene):
        return self._model.GetScene() is scene

    def remove(self):
        """Takes the nodes out of their scene, where they still are in one."""
        for node in (self._model.GetDisplayNode(), self._model):
            if node is not None and node.GetScene() is not None:
                node.GetScene().RemoveNode(node)

    def _stands(self, crossed, frame):
        if self._drawn is None or self._drawn[0] != crossed:
            return False
        return all(np.array_equal(*parts) for parts in zip(self._drawn[1], frame))  # noqa: B905


def _hiddenModel(scene, view, mesh):
    model = scene.CreateNodeByClass("vtkMRMLModelNode")
    model.UnRegister(None)
    display = scene.CreateNodeByClass("vtkMRMLModelDisplayNode")
    display.UnRegister(None)
    model.SetName("BiRD boxes in {}".format(view.GetName()))
    for node in (model, display):
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.SetUndoEnabled(False)
    model.SetSelectable(False)
    model.SetAndObservePolyData(mesh)
    _style(display, view)
    scene.AddNode(display)
    model.SetAndObserveDisplayNodeID(display.GetID())
    scene.AddNode(model)
    return model


def _style(display, view):
    """Lines and points on the view's plane in colours of their own, in no other view."""
    display.SetViewNodeIDs([view.GetID()])
    display.SetVisibility3D(False)
    display.SetVisibility2D(True)
    display.SetSliceDisplayModeToProjection()
    display.SetSliceIntersectionThickness(_LINE_WIDTH)
    display.SetActiveScalar(_COLORS, vtk.vtkAssignAttribute.POINT_DATA)
    display.SetScalarRangeFlag(display.UseDirectMapping)
    display.SetScalarVisibility(True)


def _meshOf(outlines, frame):
    """vtkPolyData: the pixels of all words as one cell of vertices, a closed line per outline."""
    mesh = vtk.vtkPolyData()
    if not outlines:
        return mesh
    words, word_colors = _words(outlines, frame)
    points = vtk.vtkPoints()
    points.SetData(_asVtk(np.concatenate([words, outlines.points]), np.float32))
    mesh.SetPoints(points)
    if len(words):
        mesh.SetVerts(_cells([0, len(words)], np.arange(len(words))))
    mesh.SetLines(_closed(outlines, len(words)))
    colors = np.repeat(_bytes(outlines.colors), outlines.counts, axis=0)
    array = _asVtk(np.concatenate([word_colors, colors]), np.uint8)
    array.SetName(_COLORS)
    mesh.GetPointData().AddArray(array)
    return mesh


def _words(outlines, frame):
    """(positions (n, 3), colours (n, 4)) of the pixels of all words."""
    size = round(FONT_SIZE * frame.magnified)
    labels = zip(outlines.words, outlines.colors)  # noqa: B905 - Python 3.9 has no `strict`
    pixels = [pixels_of(words, color, size) for words, color in labels]
    anchors, leftwards = outlines.anchors(frame)
    sizes = [(each.width, each.height) for each in pixels]
    lowest = places(_inPixels(frame, anchors).tolist(), leftwards.tolist(), sizes)
    shifts = np.repeat(lowest, [len(each.offsets) for each in pixels], axis=0)
    xy = shifts + np.concatenate([each.offsets for each in pixels])
    return _inWorld(frame, xy), np.concatenate([each.colors for each in pixels])


def _inPixels(frame, positions_world):
    """(n, 2) pixels of a view, rightwards and upwards."""
    matrix = frame.pixels_to_world
    return (positions_world - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T[:, :2]


def _inWorld(frame, xy):
    """Pixels (n, 2) of a view as world positions (n, 3); a whole number is a pixel's middle."""
    matrix = frame.pixels_to_world
    return xy @ matrix[:3, :2].T + matrix[:3, 3]


def _closed(outlines, start):
    """vtkCellArray of closed lines through the corners of each; `start`: index of the first."""
    ends = outlines.starts + outlines.counts
    indices = np.insert(np.arange(len(outlines.points)), ends, outlines.starts)
    return _cells(np.cumsum([0, *(outlines.counts + 1)]), indices + start)


def _cells(offsets, indices):
    cells = vtk.vtkCellArray()
    parts = (numpy_to_vtkIdTypeArray(np.asarray(part, np.int64), deep=True)
             for part in (offsets, indices))  # fmt: skip
    cells.SetData(*parts)
    return cells


def _bytes(colors):
    """Opaque colours (n, 4), uint8, of (r, g, b) in 0..1."""
    return np.round(255 * np.insert(colors, 3, 1.0, axis=1)).astype(np.uint8)


def _asVtk(array, kind):
    return numpy_to_vtk(np.ascontiguousarray(array, dtype=kind), deep=True)
