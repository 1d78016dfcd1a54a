"""Findings kept in the scene: table, ROIs, folders; saved and restored."""

import numpy as np
import pytest
import slicer
import vtk

from BiRDLib import scene as geometry
from BiRDLib.colors import label_color
from BiRDLib.errors import UnusableInput
from BiRDLib.findings import Findings
from grounding import a_finding, a_grounding
from saved_scene import saved_and_loaded
from voxel_grids import GEOMETRIES

LOW, HIGH = (9.5, 9.5), (29.5, 24.5)


def _names(scene, item):
    """The subject hierarchy below an item as nested dictionaries of names."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    children = []
    hierarchy.GetItemChildren(item, children)
    return {hierarchy.GetItemName(child): _names(scene, child) for child in children}


def _tree(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return _names(scene, hierarchy.GetSceneItemID())


@pytest.mark.parametrize("kind", list(GEOMETRIES))
def test_a_finding_becomes_an_roi_on_its_voxels(make_volume, kind):
    volume = make_volume(kind)
    grounding = a_grounding(a_finding(volume, "liver", range(4, 9), LOW, HIGH, score=0.874))
    (roi,) = Findings(volume.GetScene()).add(volume, grounding, "liver")
    assert roi.GetName() == "liver 0.87"
    axis = geometry.sliceAxis(volume, "axial")
    corners = np.c_[np.reshape(geometry.boxOfRoi(volume, roi), (2, 3)), np.ones(2)]
    corners_ijk = (corners @ np.linalg.inv(GEOMETRIES[kind]).T)[:, :3]
    np.testing.assert_allclose(corners_ijk.min(0), np.insert(LOW, axis, 3.5), atol=1e-3)
    np.testing.assert_allclose(corners_ijk.max(0), np.insert(HIGH, axis, 8.5), atol=1e-3)


def test_rows_hold_every_slice_box_and_what_is_absent(a_volume):
    findings = Findings(a_volume.GetScene())
    finding = a_finding(a_volume, "liver", [3, 5], LOW, HIGH)
    findings.add(a_volume, a_grounding(finding, absent=["spleen"]), "liver, spleen (axial)")
    rows = findings.rows(findings.table(a_volume))
    assert [(r.label, r.slice, r.status) for r in rows] == [
        ("liver", 3, "proposed"),
        ("liver", 5, "proposed"),
        ("spleen", -1, "absent"),
    ]
    assert {row.prompt for row in rows} == {"1: liver, spleen (axial)"}
    np.testing.assert_allclose(rows[1].corners_ras, finding.boxes[1].corners_ras, atol=1e-4)
    assert rows[2].corners_ras is None


def test_new_answers_never_touch_older_ones(a_volume):
    findings = Findings(a_volume.GetScene())
    first = a_grounding(a_finding(a_volume, "liver", [3], LOW, HIGH))
    (old,) = findings.add(a_volume, first, "liver")
    old.SetName("edited by hand")
    place = geometry.boxOfNode(old)
    second = a_grounding(a_finding(a_volume, "liver", [7], LOW, HIGH))
    (new,) = findings.add(a_volume, second, "liver")
    table = findings.table(a_volume)
    assert new is not old
    assert old.GetName() == "edited by hand"
    np.testing.assert_array_equal(geometry.boxOfNode(old)[0], place[0])
    assert [(row.prompt, row.finding) for row in findings.rows(table)] == [
        ("1: liver", "1/1"),
        ("2: liver", "2/1"),
    ]
    assert findings.rois(table) == {"1/1": old, "2/1": new}


def test_folders_per_volume_and_per_prompt(a_scene, make_volume):
    findings = Findings(a_scene)
    for volume in (make_volume(name="CT"), make_volume(name="MR")):
        for label in ("liver", "spleen"):
            grounding = a_grounding(a_finding(volume, label, [3], LOW, HIGH))
            findings.add(volume, grounding, label)
    expected = {
        "1: liver": {"liver 0.90": {}},
        "2: spleen": {"spleen 0.90": {}},
    }
    tree = _tree(a_scene)
    assert tree["BiRD: CT"] == {"CT findings": {}, **expected}
    assert tree["BiRD: MR"] == {"MR findings": {}, **expected}


def test_the_folder_stands_beside_the_volume_in_its_study(a_scene, a_volume):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Abdomen")
    hierarchy.CreateItem(study, a_volume)
    Findings(a_scene).add(a_volume, a_grounding(absent=["liver"]), "liver")
    assert set(_tree(a_scene)["Abdomen"]) == {"scan", "BiRD: scan"}


def test_an_item_that_slicer_made_is_moved_not_doubled(a_scene, a_volume):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def as_slicer_does(scene, event, node):
        if node.IsA("vtkMRMLDisplayableNode"):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    a_scene.AddObserver(a_scene.NodeAddedEvent, as_slicer_does)
    finding = a_finding(a_volume, "liver", [3], LOW, HIGH)
    Findings(a_scene).add(a_volume, a_grounding(finding), "liver")
    assert _tree(a_scene)["BiRD: scan"]["1: liver"] == {"liver 0.90": {}}
    assert "liver 0.90" not in _tree(a_scene)


def test_a_removed_volume_gets_no_findings(a_scene, a_volume):
    grounding = a_grounding(a_finding(a_volume, "liver", [3], LOW, HIGH))
    a_scene.RemoveNode(a_volume)
    with pytest.raises(UnusableInput, match="removed"):
        Findings(a_scene).add(a_volume, grounding, "liver")


@pytest.mark.parametrize("kind", ["folder", "bundle"])
def test_everything_is_saved_with_the_scene_and_restored(a_core, make_volume, tmp_path, kind):
    volume = make_volume("oblique")
    findings = Findings(a_core.scene)
    finding = a_finding(volume, "left kidney", range(4, 9), LOW, HIGH)
    findings.add(volume, a_grounding(finding, absent=["spleen"]), "left kidney, spleen (axial)")
    before = findings.rows(findings.table(volume))

    restored = saved_and_loaded(a_core, tmp_path, kind)
    again = Findings(restored.scene)
    (table,) = again.tables()
    assert again.rows(table) == before
    assert again.volume(table).GetName() == "scan"
    (roi,) = again.rois(table).values()
    assert roi.GetName() == "left kidney 0.90"
    np.testing.assert_allclose(geometry.boxOfNode(roi)[0], finding.center_ras, atol=1e-4)
    np.testing.assert_allclose(geometry.boxOfNode(roi)[1], finding.size_mm, atol=1e-4)
    assert _tree(restored.scene)["BiRD: scan"] == _tree(a_core.scene)["BiRD: scan"]
    again.add(again.volume(table), a_grounding(absent=["liver"]), "liver")
    assert [row.prompt for row in again.rows(table)][-1] == "2: liver"


ORGANS = ["spleen", "right_kidney", "left_kidney", "liver", "stomach", "aorta", "pancreas", "heart"]


IN_THE_BRAIN = ["thalamus", "hippocampus", "caudate", "putamen", "lateral ventricle"]


def test_colours_are_stable_clear_and_told_apart():
    assert label_color("kidney_right") == label_color(" Right  Kidney")
    colours = np.array([label_color(organ) for organ in ORGANS])
    assert colours.max(axis=1).min() == 1.0
    left, right = label_color("left kidney"), label_color("right kidney")
    assert np.abs(np.subtract(left, right)).max() > 0.25


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(ORGANS, id="abdomen"),
        pytest.param(
            [*(f"{side} {name}" for name in IN_THE_BRAIN for side in ("left", "right")),
             "brain stem"],
            id="brain",
        ),
    ],
)  # fmt: skip
def test_colours_of_one_region_are_told_apart(names):
    colours = np.array([label_color(name) for name in names])
    apart = np.abs(colours[:, None] - colours[None]).max(axis=2)
    assert apart[np.triu_indices(len(names), 1)].min() > 0.2
