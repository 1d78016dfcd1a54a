"""One locked outline with its words in one slice view, used again for different boxes.

Knows nothing about which box belongs there.
"""

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

    def show(self, boxes, index, frame):
        """Takes the place, the words and the colour of one of `boxes` (Boxes) on a view."""
        entry = boxes.entries[index]
        self._move(boxes, index, frame, entry.words)
        for markup in (self.roi, self._caption):
            paint(markup.GetDisplayNode(), label_color(entry.label))
        self._setVisible(True)

    def hide(self):
        if self.visible:
            self._setVisible(False)

    def isIn(self, scene):
        return self.roi.GetScene() is scene and self._caption.GetScene() is scene

    def remove(self):
        """Takes the nodes out of their scene, where they still are in one."""
        for markup in (self.roi, self._caption):
            for node in (markup.GetDisplayNode(), markup):
                if node is not None and node.GetScene() is not None:
                    node.GetScene().RemoveNode(node)

    def _move(self, boxes, index, frame, words):
        modifying = self.roi.StartModify()
        self.roi.SetName(words)
        geometry.placeRoi(self.roi, boxes.volume, *boxes.placeOn(index, frame))
        self.roi.EndModify(modifying)
        modifying = self._caption.StartModify()
        position_world, leftwards = boxes.captionOn(index, frame)
        geometry.placePoint(self._caption, position_world)
        self._caption.SetNthControlPointLabel(0, words)
        _justify(self._caption.GetDisplayNode(), leftwards)
        self._caption.EndModify(modifying)

    def _setVisible(self, visible):
        for markup in (self.roi, self._caption):
            markup.GetDisplayNode().SetVisibility(visible)
        self.visible = visible


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
