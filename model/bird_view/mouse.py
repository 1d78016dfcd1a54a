"""What the mouse does in the views: look around, change the brightness, place a box.

Knows nothing about questions.
"""

from __future__ import annotations

from collections.abc import Callable

from slicer import vtkMRMLInteractionNode, vtkMRMLMarkupsROINode
from trame_slicer.core import SlicerApp
from vtkmodules.vtkCommonCore import vtkCommand

from bird_view.BiRDLib.observing import Observing

NAME = "What is this?"


class Mouse:
    """Holds at most one box, which a new one replaces. `on_change()` after any change of these."""

    def __init__(self, app: SlicerApp, on_change: Callable[[], None]) -> None:
        self._app = app
        self._on_change = on_change
        self._roi: vtkMRMLMarkupsROINode | None = None
        self._observing = Observing(self)
        mode = app.markups_logic.interaction_node
        self._observing.add(mode, vtkCommand.ModifiedEvent, self._changed)

    @property
    def placing(self) -> bool:
        """Whether the next clicks in a view place a box."""
        return self._mode == vtkMRMLInteractionNode.Place

    @property
    def adjusting(self) -> bool:
        """Whether dragging in a slice view changes the window."""
        return self._mode == vtkMRMLInteractionNode.AdjustWindowLevel

    @property
    def roi(self) -> vtkMRMLMarkupsROINode | None:
        """The box, once it has its size."""
        roi = self._roi
        return roi if roi is not None and not self.placing and min(roi.GetSize()) > 0 else None

    def place(self) -> None:
        """From now on two clicks in a view place a box; asked for again, they no longer do."""
        again = self.placing
        self._remove()
        if not again:
            self._roi = self._app.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", NAME)
            self._roi.CreateDefaultDisplayNodes()
            self._roi.GetDisplayNode().SetFillVisibility(False)
            self._app.markups_logic.place_node(self._roi)

    def adjust(self) -> None:
        """From now on dragging changes the window; asked for again, it no longer does."""
        adjust = not self.adjusting
        if self.placing:
            self._remove()
        mode = self._app.markups_logic.interaction_node
        modes = (mode.ViewTransform, mode.AdjustWindowLevel)
        mode.SetCurrentInteractionMode(modes[adjust])

    def _remove(self) -> None:
        self._app.markups_logic.disable_place_mode()
        if self._roi is not None and self._roi.GetScene() is not None:
            self._app.scene.RemoveNode(self._roi)
        self._roi = None

    @property
    def _mode(self) -> int:
        return self._app.markups_logic.interaction_node.GetCurrentInteractionMode()

    def _changed(self, node: vtkMRMLInteractionNode, event: str) -> None:
        self._on_change()
