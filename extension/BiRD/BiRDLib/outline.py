"""One locked outline with its words in one slice view, used again for different boxes.

Knows nothing about which box belongs there.
"""

from contextlib import contextmanager

import numpy as np
import vtk

from . import scene as geometry
from .colors import label_color


class Outline:
    """An ROI and a caption that only `view` shows, that no list offers and that are never saved."""

    def __init__(self, scene, view):
        self.roi = _hiddenMarkup(scene, view, "vtkMRMLMarkupsROINode")
        self._caption = _hiddenMarkup(scene, view, "vtkMRMLMarkupsFiducialNode")
        _styleBox(self.roi.GetDisplayNode())
        _styleCaption(self._caption.GetDisplayNode())
        self.visible = False
        self._place = None  # boxes, index, frame of the last `show`

    def show(self, boxes, index, frame):
        """Takes the place, the words and the colour of one of `boxes` (Boxes) on a view."""
        entry = boxes.entries[index]
        if not self._stands(boxes, index, frame):
            with _oneEventEach(*self._nodes()):
                self._move(boxes, index, frame, entry.words)
                for markup in (self.roi, self._caption):
                    paint(markup.GetDisplayNode(), label_color(entry.label))
            self._place = boxes, index, frame
        if not self.visible:
            self._setVisible(True)

    def hide(self):
        if self.visible:
            self._setVisible(False)

    def _stands(self, boxes, index, frame):
        """Whether the outline is where it should be; moving it takes ten times as long."""
        if self._place is None or self._place[0] is not boxes or self._place[1] != index:
            return False
        return all(np.array_equal(*parts) for parts in zip(self._place[2], frame))  # noqa: B905

    def isIn(self, scene):
        return self.roi.GetScene() is scene and self._caption.GetScene() is scene

    def remove(self):
        """Takes the nodes out of their scene, where they still are in one."""
        for markup in (self.roi, self._caption):
            for node in (markup.GetDisplayNode(), markup):
                if node is not None and node.GetScene() is not None:
                    node.GetScene().RemoveNode(node)

    def _move(self, boxes, index, frame, words):
        self.roi.SetName(words)
        geometry.placeRoi(self.roi, boxes.volume, *boxes.placeOn(index, frame))
        position_world, leftwards = boxes.captionOn(index, frame)
        geometry.placePoint(self._caption, position_world)
        self._caption.SetNthControlPointLabel(0, words)
        _justify(self._caption.GetDisplayNode(), leftwards)

    def _nodes(self):
        markups = (self.roi, self._caption)
        return (*markups, *(markup.GetDisplayNode() for markup in markups))

    def _setVisible(self, visible):
        for markup in (self.roi, self._caption):
            markup.GetDisplayNode().SetVisibility(visible)
        self.visible = visible


@contextmanager
def _oneEventEach(*nodes):
    """Every view looks at all markups of the scene at each event."""
    modifying = [node.StartModify() for node in nodes]
    try:
        yield
    finally:
        for node, before in zip(nodes, modifying):  # noqa: B905
            node.EndModify(before)


def paint(display, color):
    """Gives a markups display node one colour, selected or not."""
    display.SetSelectedColor(*color)
    display.SetColor(*color)


def _hiddenMarkup(scene, view, kind):
    markup = scene.CreateNodeByClass(kind)
    markup.UnRegister(None)
    markup.SetHideFromEditors(True)
    markup.SetSaveWithScene(False)
    markup.SetUndoEnabled(False)
    markup.SetLocked(True)
    scene.AddNode(markup)
    markup.CreateDefaultDisplayNodes()
    display = markup.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetVisibility(False)
    display.SetVisibility3D(False)
    display.SetViewNodeIDs([view.GetID()])
    display.SetGlyphScale(0.0)
    return markup


def _styleBox(display):
    display.SetHandlesInteractive(False)
    display.SetFillVisibility(False)
    display.SetPropertiesLabelVisibility(False)


def _styleCaption(display):
    display.SetPointLabelsVisibility(True)
    display.SetTextScale(2.5)
    display.GetTextProperty().SetVerticalJustificationToBottom()
    display.GetTextProperty().SetShadow(True)


def _justify(display, leftwards):
    words = display.GetTextProperty()
    words.SetJustification(vtk.VTK_TEXT_RIGHT if leftwards else vtk.VTK_TEXT_LEFT)
