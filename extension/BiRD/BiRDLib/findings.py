"""What was found, kept in the scene: a table per volume, an ROI per finding, folders to hold them.

The table is the truth of the slice boxes and of the review (rows.py), the ROI node of a finding is
the truth of its 3D box, which the user may edit. New answers are added; nothing older is touched.
Knows nothing about HTTP, slice views or how matrices are made (scene.py).
"""

import uuid
from itertools import groupby

import slicer

from . import scene as geometry
from .errors import UnusableInput
from .i18n import tr as _
from .lines import Line
from .places import Place, place_of, place_text, same_places
from .roinode import FINDING, VOLUME, addRoi, relabel
from .rows import Row, add_columns, append_rows, change_rows, corners_text, read_rows
from .statuses import ABSENT, PROPOSED

KIND = "BiRD.kind"
ID = "BiRD.id"  # attribute of a table: a name that no other table has, in any scene
ROI = "BiRD.roi"  # node reference role, from table to the ROIs


class Findings:
    """The findings of all volumes of one scene; the state is in the scene, not in this object."""

    def __init__(self, scene):
        self._scene = scene

    def add(self, volume, grounding, asked):
        """Stores an answers.Grounding as new rows and ROIs; returns the ROI nodes.

        `asked` names the question in the folder and in the rows, e.g. "liver, spleen (axial)".
        """
        return self.store(volume, asked, *_entries(grounding))

    def adding(self, volume, grounding, asked):
        """`add` in small steps, as `storing`."""
        return self.storing(volume, asked, *_entries(grounding))

    def store(self, volume, asked, entries, absent=()):
        """Stores findings under one heading; returns their ROI nodes.

        `entries` are (answers.Finding, further columns of Row), `absent` (label, the same).
        """
        self._scene.StartState(self._scene.BatchProcessState)  # one update of the views, at its end
        try:
            *_steps, rois = self.storing(volume, asked, entries, absent)
            return rois
        finally:
            self._scene.EndState(self._scene.BatchProcessState)

    def storing(self, volume, asked, entries, absent=()):
        """`store` in small steps, for a caller that does other things between them.

        A generator of the findings stored so far; the last it gives are the ROI nodes. Where it
        ends early, or the volume leaves the scene, nothing of it stays.
        """
        self._requireIn(volume)
        table = self.table(volume, create=True)
        prompt, folder = self._newPrompt(table, asked)
        rows, rois = [], []
        try:
            for n, (finding, common) in enumerate(entries, start=1):
                self._requireIn(volume)
                key = "{}/{}".format(prompt.split(":", 1)[0], n)
                rows += finding_rows(finding, key, prompt=prompt, **common)
                rois.append(addRoi(self._scene, volume, finding, key, common["model"]))
                self._put(rois[-1], folder)
                yield n
            self._requireIn(volume)
        except (GeneratorExit, UnusableInput):
            self._remove(rois)
            raise
        rows += [absent_row(label, prompt=prompt, **common) for label, common in absent]
        self._refer(table, rois)
        yield len(rois)
        append_rows(table, rows)
        yield rois

    def _requireIn(self, volume):
        if volume is None or volume.GetScene() is not self._scene:
            raise UnusableInput(
                _("The volume was removed while the server worked."), _("Ask again.")
            )

    def _remove(self, rois):
        for roi in rois:
            if roi.GetScene() is self._scene:
                self._scene.RemoveNode(roi)

    @staticmethod
    def _refer(table, rois):
        modifying = table.StartModify()
        for roi in rois:
            table.AddNodeReferenceID(ROI, roi.GetID())
        table.EndModify(modifying)

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
        return read_rows(table)

    def lines(self, table):
        """A Line per finding and per absent label, in the order they came."""
        rois = self.rois(table)
        return [
            line_of(list(rows), rois.get(key))
            for (_, key, _), rows in groupby(
                self.rows(table), lambda row: (row.prompt, row.finding, row.finding or row.label)
            )
        ]

    def row(self, table, key):
        """The first Row of a finding: what is true of the whole of it. Raises UnusableInput."""
        for row in self.rows(table):
            if row.finding == key:
                return row
        raise UnusableInput(
            _("The finding {} is not in the table.").format(key), _("Choose another.")
        )

    def change(self, table, key, **values):
        """Writes what is true of a whole finding (rows.py); its ROI follows the label."""
        self.changeAll(table, {key: values})

    def changeAll(self, table, changes):
        """`change` for many findings, key -> values, with one update of the views."""
        change_rows(table, changes)
        renamed = {key for key, values in changes.items() if "label" in values}
        rois = self.rois(table) if renamed else {}
        for key in renamed & rois.keys():
            row = self.row(table, key)
            relabel(rois[key], row.label, row.whole_score, row.model)

    def place(self, table, key):
        """Place of a finding's 3D box as it stands, or None where its ROI was removed."""
        roi = self.rois(table).get(key)
        return Place(*geometry.boxOfNode(roi)) if roi is not None else None

    def moved(self, table):
        """Keys of the findings whose 3D box is not where the model put it."""
        proposed = {row.finding: place_of(row.place) for row in reversed(self.rows(table))}
        rois = self.rois(table)
        keys = [key for key in rois if proposed.get(key) is not None]
        now = [Place(*geometry.boxOfNode(rois[key])) for key in keys]
        same = same_places([proposed[key] for key in keys], now)
        return {key for key, stayed in zip(keys, same) if not stayed}  # noqa: B905

    def setPlace(self, table, key, place):
        """Puts a finding's 3D box somewhere else."""
        roi = self.rois(table).get(key)
        if roi is not None:
            geometry.placeRoi(roi, self.volume(table), *place)

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
        name = _("{} findings").format(volume.GetName())
        table = self._scene.AddNewNodeByClass("vtkMRMLTableNode", name)
        table.SetAttribute(KIND, "findings")
        table.SetAttribute(ID, uuid.uuid4().hex)
        table.SetNodeReferenceID(VOLUME, volume.GetID())
        add_columns(table)
        self._put(table, self._folder(self._itemParent(volume), "BiRD: " + volume.GetName()))
        return table

    def _newPrompt(self, table, asked):
        """(words with a number of their own, subject-hierarchy folder) of a question."""
        numbers = (int(row.prompt.split(":", 1)[0]) for row in self.rows(table))
        prompt = "{}: {}".format(1 + max(numbers, default=0), asked)
        return prompt, self._folder(self._itemParent(table), prompt)

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


def _entries(grounding):
    """(findings, absent labels) of an answer with their further columns."""
    common = {"plane": grounding.plane, "model": grounding.model}
    found = [(finding, common) for finding in grounding.findings]
    return found, [(name, common) for name in grounding.absent]


def finding_rows(finding, key, **common):
    """The rows of an answers.Finding under a key; `common` are further columns of Row."""
    place = place_text(Place(finding.center_ras, finding.size_mm, finding.axes_ras))
    own = {"whole_score": finding.score, "place": place, "asked": finding.label}
    common = {"status": PROPOSED, **own, **common}
    return [
        Row(
            finding=key,
            label=box.label,
            score=box.score,
            slice=box.slice,
            corners_ras=corners_text(box.corners_ras),
            **common,
        )
        for box in finding.boxes
    ]


def absent_row(label, **common):
    """The row of a label that was asked for and not found."""
    values = {"score": 0.0, "slice": -1, "corners_ras": "", "status": ABSENT, **common}
    return Row(finding="", label=label, **values)


def line_of(rows, roi):
    """The Line of a finding's rows and its ROI node, which may be gone."""
    first = rows[0]
    slices = (min(row.slice for row in rows), max(row.slice for row in rows))
    size_mm = _size(first, roi)
    return Line(
        key=first.finding,
        prompt=first.prompt,
        label=first.label,
        score=first.whole_score or max(row.score for row in rows),
        slices=slices if first.finding else None,
        size_mm=size_mm,
        status=first.status,
        model=first.model,
        comment=first.comment,
        told=first.told,
    )


def _size(row, roi):
    """Edge lengths of a finding's 3D box as it stands, else as it was proposed, else None."""
    if roi is not None:
        return geometry.sizeOfNode(roi)
    place = place_of(row.place)
    return tuple(place.size_mm.tolist()) if place is not None else None
