"""Boxes in slice views: a few locked outlines per view, put where the view stands now.

Three hundred ROI nodes make scrolling slow, eight do not. So the boxes stay in the findings table,
and each slice view has its own small pool of outlines, driven by the slice node's ModifiedEvent. A
view shows boxes of the volumes in its layers, of findings whose ROI is visible: the slice boxes
where it faces the slices that were asked, elsewhere the findings' 3D boxes. Knows nothing about
HTTP or Qt.
"""

from contextlib import contextmanager
from functools import partial

import vtk

from . import views
from .boxes import FindingBoxes, SliceBoxes
from .findings import Findings, Row
from .observing import Observing
from .outline import Outline
from .rows import drawn_stamp
from .statuses import least_score

POOL_SIZE = 4  # outlines are made by so many
MOST_SHOWN = 64  # outlines in one view; nobody tells more apart, and scrolling stays smooth
_MODIFIED = vtk.vtkCommand.ModifiedEvent
_WATCHED = (
    "vtkMRMLSliceNode",
    "vtkMRMLSliceCompositeNode",
    "vtkMRMLTableNode",
    "vtkMRMLMarkupsROINode",
    "vtkMRMLVolumeNode",
)


class SlicePool:
    """Keeps the slice views of one scene up to date until `close()`.

    `later(callback)` asks for a later turn of the event loop, to which the making of many outlines
    is left; without it all are made at once.
    """

    def __init__(self, scene, later=None):
        self._later = later
        self._growing = set()  # IDs of views that get more outlines in a later turn
        self._favoured = None  # key of the finding that shows whatever else does
        self._held = 0
        self._stale = False  # nodes came or went meanwhile
        self._scene = scene
        self._findings = Findings(scene)
        self._pools = {}  # slice node ID -> Outlines
        self._threshold = 0.0
        self._stamps = {}  # table node ID -> drawn_stamp when its boxes were made
        self._slices = {}  # table node ID -> SliceBoxes
        self._wholes = {}  # table node ID -> FindingBoxes
        self._statuses = {}  # table node ID -> {finding: status}
        self._preview = None  # SliceBoxes of the question in flight
        self._onScene = Observing(self)
        self._onNodes = Observing(self)
        self._changing = False  # our own nodes come or go
        self._onRois = Observing(self)
        self._onScene.addWithNode(scene, scene.NodeAddedEvent, self._onNodeChanged)
        self._onScene.addWithNode(scene, scene.NodeRemovedEvent, self._onNodeChanged)
        self._onScene.add(scene, scene.EndBatchProcessEvent, self._onBatchEnd)
        self.refresh()

    def close(self):
        """Stops watching the scene and removes the outlines."""
        for observing in (self._onScene, self._onNodes, self._onRois):
            observing.stop()
        self._remove(outline for pool in self._pools.values() for outline in pool)
        self._pools = {}

    def showFrom(self, threshold):
        """Hides slice boxes of undecided findings with a score, 0..1, below the threshold."""
        self._threshold = threshold
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
        self._favoured = finding

    def preview(self, volume, plane, boxes):
        """Shows answers.Box that are not in the table, in place of the last preview."""
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
        self._slices, self._wholes, self._statuses = {}, {}, {}
        for table in self._findings.tables():
            self._observeTable(table)
        for view in views.sliceViews(self._scene):
            self._onNodes.add(view, _MODIFIED, self._onViewChanged)
            composite = views.layersOf(view)
            if composite is not None:
                self._onNodes.add(composite, _MODIFIED, self._onDisplayChanged)
        yield from self._observingRois()
        for table in self._findings.tables():
            volume = self._findings.volume(table)
            if volume is not None:
                yield self._slicesOf(table, volume)
                yield self._boxesOf(table, volume)

    def outlines(self, view):
        """The ROI nodes that a slice view shows now."""
        return [outline.roi for outline in self._pools.get(view.GetID(), ()) if outline.visible]

    def _observeTable(self, table):
        self._onNodes.add(table, _MODIFIED, self._onTableChanged)
        self._stamps[table.GetID()] = drawn_stamp(table)
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
        shown = self._crossed(view, frame)
        pool = self._pools.setdefault(view.GetID(), [])
        self._grow(view, pool, len(shown))
        for n, outline in enumerate(pool):
            if n < len(shown):
                outline.show(*shown[n], frame)
            else:
                outline.hide()

    def _grow(self, view, pool, wanted):
        """Makes outlines, a few at a time where there is a later turn for the rest."""
        while len(pool) < wanted:
            pool.extend(self._newOutline(view) for _n in range(POOL_SIZE))
            if self._later is not None and len(pool) < wanted:
                self._growLater(view.GetID())
                return

    def _growLater(self, view_id):
        if view_id not in self._growing:
            self._growing.add(view_id)
            self._later(partial(self._growOn, view_id))

    def _growOn(self, view_id):
        self._growing.discard(view_id)
        view = self._scene.GetNodeByID(view_id)
        if view is not None and view_id in self._pools:
            self._update(view)

    def _crossed(self, view, frame):
        """(boxes, index) of the slice boxes that a view has to show, the surest where many."""
        found = self._crossedAll(view, frame)
        if len(found) > MOST_SHOWN:
            found.sort(key=self._weight, reverse=True)
        return found[:MOST_SHOWN]

    def _weight(self, crossed):
        boxes, n = crossed
        entry = boxes.entries[n]
        return entry.finding == self._favoured, entry.score

    def _crossedAll(self, view, frame):
        volume_ids = views.shownVolumeIds(view)
        found = []
        for table in self._findings.tables():
            volume = self._findings.volume(table)
            if volume is not None and volume.GetID() in volume_ids:
                found += self._crossedOf(table, volume, frame)
        if self._preview is not None and self._preview.volume.GetID() in volume_ids:
            found += [(self._preview, n) for n in self._preview.crossedBy(frame)]
        return found

    def _crossedOf(self, table, volume, frame):
        visible = visibleFindings(self._findings.rois(table))
        slices, wholes = self._boxesOf(table, volume)
        statuses = self._statusesOf(table)
        for boxes in (slices, wholes):
            for n in boxes.crossedBy(frame):
                entry = boxes.entries[n]
                hidden = entry.finding not in visible or (
                    boxes is slices and entry.finding in wholes.moved
                )
                least = least_score(statuses[entry.finding], self._threshold)
                if not hidden and least is not None and entry.score >= least:
                    yield boxes, n

    def _statusesOf(self, table):
        key = table.GetID()
        if key not in self._statuses:
            rows = self._findings.rows(table)
            self._statuses[key] = {row.finding: row.status for row in rows}
        return self._statuses[key]

    def _boxesOf(self, table, volume):
        """(SliceBoxes, FindingBoxes) of a table, made anew only after a change."""
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
            self._slices[key] = SliceBoxes(volume, self._boxed(table))
        return self._slices[key]

    def _boxed(self, table):
        return [row for row in self._findings.rows(table) if row.corners_ras is not None]

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

    def _onTableChanged(self, table, event):
        if self._stamps.get(table.GetID()) != drawn_stamp(table):
            self.refresh()
            return
        self._statuses.pop(table.GetID(), None)
        self._updateAll()

    def _onDataChanged(self, node, event):
        self.refresh()

    def _onNodeChanged(self, scene, event, node):
        if self._held:
            self._stale = True
        if self._changing or self._held or scene.IsBatchProcessing():
            return
        if any(node.IsA(kind) for kind in _WATCHED):
            self._dropRemoved()
            self.refresh()

    def _onBatchEnd(self, scene, event):
        if not self._held:
            self._dropRemoved()
        self.refresh()

    def _dropRemoved(self):
        """Forgets outlines and previews whose view, volume or own nodes have left the scene."""
        alive = {view.GetID() for view in views.sliceViews(self._scene)}
        for view_id, pool in list(self._pools.items()):
            kept = [outline for outline in pool if view_id in alive and outline.isIn(self._scene)]
            self._pools[view_id] = kept
            self._remove(set(pool) - set(kept))
        if self._preview is not None and self._preview.volume.GetScene() is not self._scene:
            self._preview = None


def visibleFindings(rois):
    """Keys of the findings whose ROI exists and is shown."""
    return {key for key, roi in rois.items() if roi.GetDisplayVisibility()}
