"""What was found, kept in the scene: a table per volume, an ROI per finding, folders to hold them.

The table is the truth of the slice boxes (one row each), the ROI node of a finding is the truth of
its 3D box, which the user may edit. New answers are added; nothing older is touched. Knows nothing
about HTTP, slice views or how matrices are made (scene.py).
"""

from collections import namedtuple

import slicer
import vtk

from . import scene as geometry
from .colors import label_color
from .errors import UnusableInput
from .outline import paint

KIND = "BiRD.kind"
FINDING = "BiRD.finding"  # attribute of an ROI: the key its rows carry
VOLUME = "BiRD.volume"  # node reference role, from table and ROI to the volume
ROI = "BiRD.roi"  # node reference role, from table to the ROIs

SUGGESTED, ABSENT = "suggested", "absent"

# prompt: number and words of the question; finding: "prompt number/finding number", empty where
# the label is absent; corners_ras: 12 numbers, mm, volume RAS, around the box.
Row = namedtuple("Row", "prompt finding label score plane slice corners_ras status model")
_TYPES = dict.fromkeys(Row._fields, vtk.VTK_STRING)
_TYPES.update(score=vtk.VTK_DOUBLE, slice=vtk.VTK_INT)


class Findings:
    """The findings of all volumes of one scene; the state is in the scene, not in this object."""

    def __init__(self, scene):
        self._scene = scene

    def add(self, volume, grounding, asked):
        """Stores an answers.Grounding as new rows and ROIs; returns the ROI nodes.

        `asked` names the question in the folder and in the rows, e.g. "liver, spleen (axial)".
        """
        if volume is None or volume.GetScene() is not self._scene:
            raise UnusableInput("The volume was removed while the server worked.", "Ask again.")
        self._scene.StartState(self._scene.BatchProcessState)  # one update of the views, at its end
        try:
            return self._add(volume, grounding, asked)
        finally:
            self._scene.EndState(self._scene.BatchProcessState)

    def _add(self, volume, grounding, asked):
        table = self.table(volume, create=True)
        number = self._nextPrompt(table)
        prompt = "{}: {}".format(number, asked)
        folder = self._folder(self._itemParent(table), prompt)
        rows, rois = [], []
        for n, finding in enumerate(grounding.findings, start=1):
            key = "{}/{}".format(number, n)
            rows += [
                Row(prompt, key, box.label, box.score, grounding.plane, box.slice,
                    _text(box.corners_ras), SUGGESTED, grounding.model)
                for box in finding.boxes
            ]  # fmt: skip
            rois.append(self._addRoi(volume, table, folder, finding, key, grounding.model))
        rows += [
            Row(prompt, "", label, 0.0, grounding.plane, -1, "", ABSENT, grounding.model)
            for label in grounding.absent
        ]
        _append(table, rows)
        return rois

    def table(self, volume, create=False):
        """The table of `volume`, or None (a new one with `create`)."""
        for table in self.tables():
            if table.GetNodeReferenceID(VOLUME) == volume.GetID():
                return table
        return self._newTable(volume) if create else None

    def tables(self):
        """All findings tables of the scene."""
        nodes = self._scene.GetNodesByClass("vtkMRMLTableNode")
        nodes.UnRegister(None)
        every = (nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems()))
        return [table for table in every if table.GetAttribute(KIND) == "findings"]

    @staticmethod
    def volume(table):
        return table.GetNodeReference(VOLUME)

    @staticmethod
    def rows(table):
        """The rows of a table as Row tuples; `corners_ras` as 4 points, or None."""
        columns = [table.GetTable().GetColumnByName(name) for name in Row._fields]
        return [
            _row([column.GetVariantValue(n) for column in columns])
            for n in range(table.GetNumberOfRows())
        ]

    @staticmethod
    def rois(table):
        """Finding key -> ROI node, for the findings that still have one."""
        count = table.GetNumberOfNodeReferences(ROI)
        nodes = (table.GetNthNodeReference(ROI, n) for n in range(count))
        return {roi.GetAttribute(FINDING): roi for roi in nodes if roi is not None}

    def folder(self, table):
        """Subject-hierarchy item of the folder that holds a table and its prompts' folders."""
        return self._itemParent(table)

    def _newTable(self, volume):
        name = "{} findings".format(volume.GetName())
        table = self._scene.AddNewNodeByClass("vtkMRMLTableNode", name)
        table.SetAttribute(KIND, "findings")
        table.SetNodeReferenceID(VOLUME, volume.GetID())
        for column, kind in _TYPES.items():
            array = vtk.vtkAbstractArray.CreateArray(kind)
            array.SetName(column)
            table.AddColumn(array)
            table.SetColumnType(column, kind)
        self._put(table, self._folder(self._itemParent(volume), "BiRD: " + volume.GetName()))
        return table

    def _addRoi(self, volume, table, folder, finding, key, model):
        name = "{} {:.2f}".format(finding.label, finding.score)
        roi = self._scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
        roi.CreateDefaultDisplayNodes()
        geometry.placeRoi(roi, volume, finding.center_ras, finding.size_mm, finding.axes_ras)
        roi.SetAttribute(FINDING, key)
        roi.SetNodeReferenceID(VOLUME, volume.GetID())
        roi.SetNthControlPointLabel(0, finding.label)
        roi.SetNthControlPointDescription(0, "{:.3f} by {}".format(finding.score, model))
        _styleFinding(roi.GetDisplayNode(), finding.label)
        table.AddNodeReferenceID(ROI, roi.GetID())
        self._put(roi, folder)
        return roi

    def _nextPrompt(self, table):
        numbers = (int(row.prompt.split(":", 1)[0]) for row in self.rows(table))
        return 1 + max(numbers, default=0)

    def _hierarchy(self):
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)

    def _folder(self, parent, name):
        hierarchy = self._hierarchy()
        folder = hierarchy.CreateFolderItem(parent, name)
        hierarchy.SetItemExpanded(folder, True)
        return folder

    def _put(self, node, folder):
        """Moves a node's item into a folder; Slicer has made the item, other programs have not."""
        hierarchy = self._hierarchy()
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.SetItemParent(item, folder)
        else:
            hierarchy.CreateItem(folder, node)

    def _itemParent(self, node):
        hierarchy = self._hierarchy()
        item = hierarchy.GetItemByDataNode(node)
        return hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID()


def _styleFinding(display, label):
    """A named outline in 3D views; slice views get theirs from the pool (slicepool.py)."""
    paint(display, label_color(label))
    display.SetVisibility2D(False)
    display.SetFillVisibility(False)
    display.SetHandlesInteractive(False)
    display.SetGlyphScale(0.0)
    display.SetPropertiesLabelVisibility(True)


def _append(table, rows):
    """Adds rows in one go: one ModifiedEvent, however many boxes."""
    wasModifying = table.StartModify()
    data = table.GetTable()
    for row in rows:
        for name, value in row._asdict().items():
            data.GetColumnByName(name).InsertNextValue(value)
    data.Modified()
    table.Modified()
    table.EndModify(wasModifying)


def _text(corners_ras):
    return " ".join("{:.4f}".format(value) for corner in corners_ras for value in corner)


def _row(variants):
    row = Row(*(variant.ToString() for variant in variants))
    numbers = [float(number) for number in row.corners_ras.split()]
    corners_ras = tuple(tuple(numbers[n : n + 3]) for n in range(0, len(numbers), 3))
    return row._replace(
        score=float(row.score), slice=int(float(row.slice)), corners_ras=corners_ras or None
    )
