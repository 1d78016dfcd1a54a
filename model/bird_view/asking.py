"""The part of the page that asks: where is it, and what is this.

Knows nothing about widgets; what it does is in BiRDLib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bird_view.BiRDLib import views
from bird_view.BiRDLib.labels import known_labels
from bird_view.BiRDLib.question import CURRENT, Question, parse_labels
from bird_view.mouse import Mouse
from bird_view.section import Section

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsROINode

    from bird_view.BiRDLib.answers import Grounding, Health, Referring
    from bird_view.viewer import Viewer


class Asking(Section):
    """Asks, and shows what came of it."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.mouse = Mouse(viewer.app, viewer.on_scene_event)

    def connected(self, health: Health) -> None:
        """The server is known: so are the names that it understands."""
        self.page.known = ", ".join(known_labels(health.labels)) or "any words"

    def update(self) -> None:
        self.page.drawing, self.page.brightness = self.mouse.placing, self.mouse.adjusting
        self.page.ask_reason = self.core.can_ground(self._question())[1]
        self.page.refer_reason = self.core.can_refer(self.volume, self._roi())[1]

    def ground(self) -> None:
        self.core.ground(self._question(), self._grounded, self.failed, self.viewer.progress)
        self.viewer.update()

    def draw(self) -> None:
        """The next two clicks in a view place a box; asked for again, they no longer do."""
        self.page.answer = ""
        self.mouse.place()
        self.viewer.update()

    def adjust(self) -> None:
        """Dragging in a view changes the brightness; asked for again, it no longer does."""
        self.mouse.adjust()
        self.viewer.update()

    def refer(self, task: str = "roc") -> None:
        """What is in the drawn box, or else in the selected finding's?"""
        self.page.answer = ""
        self.core.refer(
            self._question(), self._roi(), self._referred, self.failed, self.viewer.progress, task
        )
        self.viewer.update()

    def _question(self) -> Question:
        page = self.page
        labels = parse_labels(page.labels)
        return Question(self.volume, labels, plane=page.plane, extent=page.extent)

    def _roi(self) -> vtkMRMLMarkupsROINode | None:
        if self.mouse.roi is not None:
            return self.mouse.roi
        table = self.core.findings.table(self.volume)
        return None if table is None else self.core.findings.rois(table).get(self.page.selected)

    def _grounded(self, grounding: Grounding, rois: list[vtkMRMLMarkupsROINode]) -> None:
        found = ", ".join(roi.GetName() for roi in rois) or "nothing"
        self.viewer.log(f"Found: {found}.")
        if grounding.absent:
            self.viewer.log(f"Not found: {', '.join(grounding.absent)}.")
        self.viewer.progress(1.0, "Done")
        if rois and self.page.extent != CURRENT:
            views.jumpTo(self.viewer.app.scene, rois[0])
        self.viewer.update()

    def _referred(self, answer: Referring) -> None:
        where = f"{answer.plane} slice {answer.slice}"
        self.page.answer = f"{answer.text} ({answer.score:.0%}, {where})"
        self.viewer.log(self.page.answer)
        self.viewer.progress(1.0, "Done")
        self.viewer.update()
