"""Boxes in slice views: a few locked outlines per view, put where the view stands now.

Three hundred ROI nodes make scrolling slow, eight do not. So the boxes stay in the findings table,
and each slice view has its own small pool of outlines, driven by the slice node's ModifiedEvent. A
view shows boxes of the volumes in its layers, of findings whose ROI is visible: the slice boxes
where it faces the slices that were asked, elsewhere the findings' 3D boxes. Knows nothing about
HTTP or Qt.
"""

import vtk

from . import scene as geometry
from .boxes import FindingBoxes, SliceBoxes
from .findings import Findings, Row
from .observing import Observing
from .outline import Outline

POOL_SIZE = 8
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
        self._scene = scene
        self._findings = Findings(scene)
        self._pools = {}  # slice node ID -> Outlines
        self._slices = {}  # table node ID -> SliceBoxes
        self._wholes = {}  # table node ID -> FindingBoxes
        self._preview = None  # SliceBoxes of the question in flight
        self._onScene = Observing(self)
        self._onNodes = Observing(self)
        self._changing = False  # our own nodes come or go
        self._onScene.addWithNode(scene, scene.NodeAddedEvent, self._onNodeChanged)
        self._onScene.addWithNode(scene, scene.NodeRemovedEvent, self._onNodeChanged)
        self._onScene.add(scene, scene.EndBatchProcessEvent, self._onBatchEnd)
        self.refresh()

    def close(self):
        """Stops watching the scene and removes the outlines."""
        self._onScene.stop()
        self._onNodes.stop()
        self._remove(outline for pool in self._pools.values() for outline in pool)
        self._pools = {}

    def preview(self, volume, plane, boxes):
        """Shows answers.Box that are not in the table yet, in place of the last preview."""
        rows = [
            Row("", "", box.label, box.score, plane, box.slice, box.corners_ras, "", "")
            for box in boxes
        ]
        self._preview = SliceBoxes(volume, rows)
        self._updateAll()

    def endPreview(self):
        self._preview = None
        self._updateAll()

    def refresh(self):
        """Looks for tables and views anew and shows what they say."""
        self._onNodes.stop()
        self._slices, self._wholes = {}, {}
        for table in self._findings.tables():
            self._observeTable(table)
        for view in geometry.sliceViews(self._scene):
            self._onNodes.add(view, _MODIFIED, self._onViewChanged)
            composite = geometry.layersOf(view)
            if composite is not None:
                self._onNodes.add(composite, _MODIFIED, self._onDisplayChanged)
        self._updateAll()

    def outlines(self, view):
        """The ROI nodes that a slice view shows now."""
        return [outline.roi for outline in self._pools.get(view.GetID(), ()) if outline.visible]

    def _observeTable(self, table):
        self._onNodes.add(table, _MODIFIED, self._onDataChanged)
        volume = self._findings.volume(table)
        if volume is not None:
            self._onNodes.add(volume, volume.TransformModifiedEvent, self._onDataChanged)
        for roi in self._findings.rois(table).values():
            self._onNodes.add(roi, roi.DisplayModifiedEvent, self._onDisplayChanged)
            for event in (_MODIFIED, roi.PointModifiedEvent):
                self._onNodes.add(roi, event, self._onFindingChanged)

    def _updateAll(self):
        for view in geometry.sliceViews(self._scene):
            self._update(view)

    def _update(self, view):
        frame = geometry.sliceFrame(view)
        shown = self._crossed(view, frame)
        pool = self._pools.setdefault(view.GetID(), [])
        while len(pool) < len(shown):
            pool.extend(self._newOutline(view) for _ in range(POOL_SIZE))
        for n, outline in enumerate(pool):
            if n < len(shown):
                outline.show(*shown[n], frame)
            else:
                outline.hide()

    def _crossed(self, view, frame):
        """(boxes, index) of every slice box that a view has to show."""
        volume_ids = geometry.shownVolumeIds(view)
        found = []
        for table in self._findings.tables():
            volume = self._findings.volume(table)
            if volume is not None and volume.GetID() in volume_ids:
                visible = visibleFindings(self._findings.rois(table))
                for boxes in self._boxesOf(table, volume):
                    crossed = boxes.crossedBy(frame)
                    found += [(boxes, n) for n in crossed if boxes.entries[n].finding in visible]
        if self._preview is not None and self._preview.volume.GetID() in volume_ids:
            found += [(self._preview, n) for n in self._preview.crossedBy(frame)]
        return found

    def _boxesOf(self, table, volume):
        """(SliceBoxes, FindingBoxes) of a table, made anew only after a change."""
        key = table.GetID()
        if key not in self._slices or key not in self._wholes:
            rows = [row for row in self._findings.rows(table) if row.corners_ras is not None]
            rois = self._findings.rois(table)
            first = {row.finding: row for row in reversed(rows) if row.finding in rois}
            if key not in self._slices:
                self._slices[key] = SliceBoxes(volume, rows)
            self._wholes[key] = FindingBoxes(volume, rois, list(first.values()))
        return self._slices[key], self._wholes[key]

    def _newOutline(self, view):
        self._changing = True
        try:
            return Outline(self._scene, view)
        finally:
            self._changing = False

    def _remove(self, outlines):
        self._changing = True
        try:
            for outline in outlines:
                outline.remove()
        finally:
            self._changing = False

    def _onViewChanged(self, view, event):
        self._update(view)

    def _onDisplayChanged(self, node, event):
        self._updateAll()

    def _onFindingChanged(self, roi, event):
        self._wholes = {}
        self._updateAll()

    def _onDataChanged(self, node, event):
        self.refresh()

    def _onNodeChanged(self, scene, event, node):
        if self._changing or scene.IsBatchProcessing():
            return
        if any(node.IsA(kind) for kind in _WATCHED):
            self._dropRemoved()
            self.refresh()

    def _onBatchEnd(self, scene, event):
        self._dropRemoved()
        self.refresh()

    def _dropRemoved(self):
        """Forgets outlines and previews whose view, volume or own nodes have left the scene."""
        alive = {view.GetID() for view in geometry.sliceViews(self._scene)}
        for view_id, pool in list(self._pools.items()):
            kept = [outline for outline in pool if view_id in alive and outline.isIn(self._scene)]
            self._pools[view_id] = kept
            self._remove(set(pool) - set(kept))
        if self._preview is not None and self._preview.volume.GetScene() is not self._scene:
            self._preview = None


def visibleFindings(rois):
    """Keys of the findings whose ROI exists and is shown."""
    return {key for key, roi in rois.items() if roi.GetDisplayVisibility()}
