"""Boxes in slice views: a locked drawing per view, of what the view meets where it stands now.

Three hundred ROI nodes make scrolling slow, a drawing does not. So the boxes stay in the findings
table (stock.py), and each slice view has one drawing of its own (drawing.py), driven by the slice
node's ModifiedEvent. Knows nothing about HTTP or Qt.
"""

from contextlib import contextmanager

import vtk

from . import views
from .boxes import SliceBoxes
from .drawing import Drawing
from .findings import Findings, Row
from .observing import Observing
from .stock import Stock

_MODIFIED = vtk.vtkCommand.ModifiedEvent
_WATCHED = (
    "vtkMRMLSliceNode",
    "vtkMRMLSliceCompositeNode",
    "vtkMRMLTableNode",
    "vtkMRMLMarkupsROINode",
    "vtkMRMLVolumeNode",
)


class SlicePool:
    """Keeps the slice views of one scene up to date until `close()`."""

    def __init__(self, scene):
        self._held = 0
        self._stale = False  # nodes came or went meanwhile
        self._scene = scene
        self._findings = Findings(scene)
        self._stock = Stock(self._findings)
        self._drawings = {}  # slice node ID -> Drawing
        self._onScene = Observing(self)
        self._onNodes = Observing(self)
        self._onRois = Observing(self)
        self._onScene.addWithNode(scene, scene.NodeAddedEvent, self._onNodeChanged)
        self._onScene.addWithNode(scene, scene.NodeRemovedEvent, self._onNodeChanged)
        self._onScene.add(scene, scene.EndBatchProcessEvent, self._onBatchEnd)
        self.refresh()

    def close(self):
        """Stops watching the scene and removes the drawings."""
        for observing in (self._onScene, self._onNodes, self._onRois):
            observing.stop()
        for drawing in self._drawings.values():
            drawing.remove()
        self._drawings = {}

    def showFrom(self, threshold):
        """Hides slice boxes of undecided findings with a score, 0..1, below the threshold."""
        self._stock.threshold = threshold
        self._updateAll()

    @contextmanager
    def held(self):
        """Many changes, one update of the views at their end; a view that scrolls follows."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._held == 0 and self._stale:
                self._dropRemoved()
                self.refresh()
            else:
                self._updateAll()

    def favour(self, finding):
        """Where too many boxes would show, this finding's do."""
        self._stock.favoured = finding

    def preview(self, volume, plane, boxes):
        """Shows answers.Box that are not in the table, in place of the last preview."""
        rows = [
            Row("", "", box.label, box.score, plane, box.slice, box.corners_ras, "", "")
            for box in boxes
        ]
        self._stock.preview = SliceBoxes(volume, rows)
        self._updateAll()

    def endPreview(self):
        self._stock.preview = None
        self._updateAll()

    def refresh(self):
        """Looks for tables and views anew and shows what they say."""
        if self._held:
            self._stale = True
            return
        for _step in self.refreshing():
            pass
        self._updateAll()

    def refreshing(self):
        """The steps of `refresh`, for a caller that has many and does other things between them.

        The views follow at the end of `held`.
        """
        self._stale = False
        self._onNodes.stop()
        self._stock.forget()
        for table in self._findings.tables():
            self._observeTable(table)
        for view in views.sliceViews(self._scene):
            self._onNodes.add(view, _MODIFIED, self._onViewChanged)
            composite = views.layersOf(view)
            if composite is not None:
                self._onNodes.add(composite, _MODIFIED, self._onLayersChanged)
        yield from self._observingRois()
        yield from self._stock.making()

    def outlines(self, view):
        """The Outlines that a slice view shows now."""
        drawing = self._drawings.get(view.GetID())
        return list(drawing.outlines) if drawing is not None else []

    def _observeTable(self, table):
        self._onNodes.add(table, _MODIFIED, self._onTableChanged)
        volume = self._findings.volume(table)
        if volume is not None:
            self._onNodes.add(volume, volume.TransformModifiedEvent, self._onDataChanged)

    def _observingRois(self):
        """Only those that are new: there may be a thousand."""
        tables = self._findings.tables()
        rois = [roi for table in tables for roi in self._findings.rois(table).values()]
        for roi in self._onRois.keepOnly(rois):
            self._onRois.add(roi, roi.DisplayModifiedEvent, self._onDisplayChanged)
            for event in (_MODIFIED, roi.PointModifiedEvent):
                self._onRois.add(roi, event, self._onFindingChanged)
            yield

    def _updateAll(self):
        if not self._held:
            for view in views.sliceViews(self._scene):
                self._update(view)

    def _update(self, view):
        frame = views.sliceFrame(view)
        crossed = self._stock.crossed(views.shownVolumeIds(view), frame)
        drawing = self._drawings.get(view.GetID())
        if drawing is None and crossed:
            drawing = self._drawings[view.GetID()] = Drawing(self._scene, view)
        if drawing is not None:
            drawing.show(crossed, frame)

    def _onViewChanged(self, view, event):
        self._update(view)

    def _onLayersChanged(self, composite, event):
        self._updateAll()

    def _onDisplayChanged(self, roi, event):
        self._stock.forgetAllowed()
        self._updateAll()

    def _onFindingChanged(self, roi, event):
        self._stock.forgetWholes()
        self._updateAll()

    def _onTableChanged(self, table, event):
        if self._stock.isStale(table):
            self.refresh()
        else:
            self._stock.forgetAllowed()
            self._updateAll()

    def _onDataChanged(self, node, event):
        self.refresh()

    def _onNodeChanged(self, scene, event, node):
        if self._held:
            self._stale = True
        if self._held or scene.IsBatchProcessing():
            return
        if any(node.IsA(kind) for kind in _WATCHED):
            self._dropRemoved()
            self.refresh()

    def _onBatchEnd(self, scene, event):
        if not self._held:
            self._dropRemoved()
        self.refresh()

    def _dropRemoved(self):
        """Forgets drawings and previews whose view, volume or own nodes have left the scene."""
        alive = {view.GetID() for view in views.sliceViews(self._scene)}
        for view_id, drawing in list(self._drawings.items()):
            if view_id not in alive or not drawing.isIn(self._scene):
                del self._drawings[view_id]
                drawing.remove()
        preview = self._stock.preview
        if preview is not None and preview.volume.GetScene() is not self._scene:
            self._stock.preview = None
