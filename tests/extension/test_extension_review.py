"""Reviewing on a scene: decide, undo, move boxes, add what was missed; what then shows."""

import time

import numpy as np
import pytest
import slicer

from BiRDLib import scene as geometry
from BiRDLib.background import Background
from BiRDLib.colors import label_color
from BiRDLib.errors import UnusableInput
from BiRDLib.findings import Findings
from BiRDLib.logic import Logic
from BiRDLib.notes import notes
from BiRDLib.review import Review
from grounding import a_finding, a_grounding
from saved_scene import saved_and_loaded
from voxel_grids import GEOMETRIES

LOW, HIGH = (9.5, 9.5), (29.5, 24.5)
NEARBY = ((34.5, 9.5), (50.5, 30.5))


@pytest.fixture
def a_logic(a_scene):
    logic = Logic(a_scene, Background())
    yield logic
    logic.close()


@pytest.fixture
def a_review(a_scene, a_logic):
    review = Review(a_scene, a_logic, a_logic.display, pytest.fail, lambda: None)
    review.decisions.reviewer = "Dr A"
    return review


@pytest.fixture
def a_found_volume(a_volume, a_logic):
    """Liver 0.9 (1/1) and spleen 0.4 (1/2) on axial slices 4..8; no gallbladder."""
    liver = a_finding(a_volume, "liver", range(4, 9), LOW, HIGH, score=0.9)
    spleen = a_finding(a_volume, "spleen", range(4, 9), *NEARBY, score=0.4)
    grounding = a_grounding(liver, spleen, absent=["gallbladder"])
    a_logic.findings.add(a_volume, grounding, "liver, spleen, gallbladder")
    return a_volume


def _statuses(review, volume):
    return [line.status for line in review.lines(volume)]


def _place(logic, volume, key="1/1"):
    return logic.findings.place(logic.findings.table(volume), key)


def _move(logic, volume, key, by_mm):
    place = _place(logic, volume, key)
    table = logic.findings.table(volume)
    logic.findings.setPlace(table, key, place._replace(center_ras=place.center_ras + by_mm))


def test_decisions_are_undone_and_redone_in_steps(a_review, a_found_volume):
    volume, decisions = a_found_volume, a_review.decisions
    a_review.accept(volume, ["1/1"])
    a_review.reject(volume, ["1/1", "1/2"])
    a_review.comment(volume, ["1/2"], " upper\npole\tcut off ")
    assert _statuses(a_review, volume) == ["rejected", "rejected", "absent"]
    assert a_review.lines(volume)[1].comment == "upper\npole\tcut off"
    a_review.undo()
    a_review.undo()
    assert _statuses(a_review, volume) == ["accepted", "proposed", "absent"]
    a_review.redo()
    assert _statuses(a_review, volume) == ["rejected", "rejected", "absent"]
    a_review.undo()
    a_review.undo()
    assert _statuses(a_review, volume) == ["proposed", "proposed", "absent"]
    assert (decisions.canUndo, decisions.canRedo) == (False, True)
    a_review.accept(volume, ["1/2"])
    assert not decisions.canRedo


def test_deciding_the_same_again_is_no_step(a_review, a_found_volume):
    a_review.accept(a_found_volume, ["1/1"])
    a_review.accept(a_found_volume, ["1/1", ""])
    a_review.undo()
    assert not a_review.decisions.canUndo


def test_undo_passes_over_what_has_left_the_scene(a_scene, a_review, a_found_volume, a_logic):
    a_review.accept(a_found_volume, ["1/1"])
    a_scene.RemoveNode(a_logic.findings.table(a_found_volume))
    a_review.undo()
    assert not a_review.decisions.canUndo
    with pytest.raises(UnusableInput, match="no findings"):
        a_review.accept(a_found_volume, ["1/1"])


def test_another_name_changes_roi_rows_and_colour(a_review, a_found_volume, a_logic):
    a_review.rename(a_found_volume, ["1/1"], "  hepatic  cyst ")
    table = a_logic.findings.table(a_found_volume)
    roi = a_logic.findings.rois(table)["1/1"]
    assert roi.GetName() == "hepatic cyst 0.90"
    assert roi.GetDisplayNode().GetSelectedColor() == pytest.approx(label_color("hepatic cyst"))
    assert a_review.lines(a_found_volume)[0][2:7:4] == ("hepatic cyst", "edited")
    a_review.undo()
    assert roi.GetName() == "liver 0.90"
    with pytest.raises(UnusableInput, match="needs a name"):
        a_review.rename(a_found_volume, ["1/1"], " ")


def test_handles_come_out_and_a_moved_box_is_an_edited_finding(
    a_review, a_found_volume, a_logic, make_view
):
    view = make_view().show(a_found_volume).jump((0, 0, -28))
    table = a_logic.findings.table(a_found_volume)
    display = a_logic.findings.rois(table)["1/1"].GetDisplayNode()
    assert a_review.edit(a_found_volume, "1/1")
    assert display.GetHandlesInteractive()
    before = _place(a_logic, a_found_volume)
    _move(a_logic, a_found_volume, "1/1", (5, 0, 0))
    assert not a_review.edit(a_found_volume, "1/1")
    assert not display.GetHandlesInteractive()
    assert _statuses(a_review, a_found_volume)[0] == "edited"
    shown = {outline.words: outline for outline in a_logic.pool.outlines(view.node)}
    assert set(shown) == {"liver 0.90", "spleen 0.40"}
    center = shown["liver 0.90"].around.mean(axis=0)
    np.testing.assert_allclose(center[:2], before.center_ras[:2] + np.array([5, 0]), atol=1e-6)
    a_review.undo()
    assert _statuses(a_review, a_found_volume)[0] == "proposed"
    np.testing.assert_allclose(_place(a_logic, a_found_volume).center_ras, before.center_ras)


def test_handles_that_moved_nothing_decide_nothing(a_review, a_found_volume):
    a_review.edit(a_found_volume, "1/1")
    a_review.finish()
    assert _statuses(a_review, a_found_volume)[0] == "proposed"
    assert not a_review.decisions.canUndo


def test_undo_while_moving_puts_the_box_back(a_review, a_found_volume, a_logic):
    before = _place(a_logic, a_found_volume)
    a_review.edit(a_found_volume, "1/1")
    _move(a_logic, a_found_volume, "1/1", (5, 0, 0))
    a_review.undo()
    np.testing.assert_allclose(_place(a_logic, a_found_volume).center_ras, before.center_ras)
    assert a_review.handles.key is None


@pytest.mark.parametrize("kind", list(GEOMETRIES))
@pytest.mark.parametrize("plane", geometry.PLANES)
def test_what_was_missed_is_added_where_it_was_drawn(
    a_scene, a_review, a_logic, make_volume, kind, plane
):
    volume = make_volume(kind)
    drawn = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "drawn")
    low, high = np.array([9.5, 9.5, 9.5]), np.array([19.5, 14.5, 12.5])
    axes = geometry.ijkToRas(volume)[:3, :3] / np.linalg.norm(
        geometry.ijkToRas(volume)[:3, :3], axis=0
    )
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    center = geometry.ijkToRas(volume) @ [*(low + high) / 2, 1]
    spacing = np.linalg.norm(geometry.ijkToRas(volume)[:3, :3], axis=0)
    geometry.placeRoi(drawn, volume, center[:3], (high - low) * spacing, axes)
    own = a_review.addByHand(volume, drawn, "nodule", plane)
    assert own is not drawn
    (line,) = a_review.lines(volume)
    axis = geometry.sliceAxis(volume, plane)
    assert line.slices == (int(low[axis] + 0.5), int(high[axis] - 0.5))
    assert (line.status, line.model, line.told) == ("accepted", "", "untold")
    np.testing.assert_allclose(geometry.boxOfRoi(volume, own), geometry.boxOfRoi(volume, drawn))


def test_a_missed_finding_needs_a_box_and_a_name(a_scene, a_review, a_volume):
    with pytest.raises(UnusableInput, match="No box"):
        a_review.addByHand(a_volume, None, "x", "axial")
    roi = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    geometry.placeRoi(roi, a_volume, (0, 0, 0), (9, 9, 9), np.eye(3))
    with pytest.raises(UnusableInput, match="needs a name"):
        a_review.addByHand(a_volume, roi, "  ", "axial")
    assert a_review.lines(a_volume) == []


def test_the_threshold_acts_on_views_at_once(a_logic, a_found_volume, make_view):
    view = make_view().show(a_found_volume).jump((0, 0, -30))
    table = a_logic.findings.table(a_found_volume)
    rois = a_logic.findings.rois(table)
    assert len(a_logic.pool.outlines(view.node)) == 2
    a_logic.display.showFrom(0.5)
    assert [outline.words for outline in a_logic.pool.outlines(view.node)] == ["liver 0.90"]
    assert not rois["1/2"].GetDisplayVisibility()
    a_logic.display.showFrom(0.0)
    assert len(a_logic.pool.outlines(view.node)) == 2
    assert rois["1/2"].GetDisplayVisibility()


def test_a_thin_end_below_the_threshold_is_hidden_alone(a_logic, a_volume, make_view):
    finding = a_finding(a_volume, "liver", [4, 5], LOW, HIGH, score=0.9)
    weak = a_finding(a_volume, "liver", [6], LOW, HIGH, score=0.3)
    both = finding.boxes + weak.boxes
    grounding = a_grounding(type(finding)(**dict(vars(finding), boxes=both, slices=(4, 6))))
    a_logic.findings.add(a_volume, grounding, "liver")
    view = make_view().show(a_volume)
    a_logic.display.showFrom(0.5)
    shown = [len(a_logic.pool.outlines(view.jump((0, 0, z)).node)) for z in (-32, -30, -28)]
    assert shown == [1, 1, 0]


def test_what_is_rejected_leaves_the_views_and_what_is_decided_stays(
    a_review, a_logic, a_found_volume, make_view
):
    view = make_view().show(a_found_volume).jump((0, 0, -30))
    a_review.reject(a_found_volume, ["1/1"])
    a_review.accept(a_found_volume, ["1/2"])
    a_logic.display.showFrom(0.99)
    assert [outline.words for outline in a_logic.pool.outlines(view.node)] == ["spleen 0.40"]
    a_review.reopen(a_found_volume, ["1/1"])
    a_logic.display.showFrom(0.5)
    assert len(a_logic.pool.outlines(view.node)) == 2


def test_what_the_user_hid_by_hand_stays_hidden(a_logic, a_found_volume):
    roi = a_logic.findings.rois(a_logic.findings.table(a_found_volume))["1/1"]
    roi.GetDisplayNode().SetVisibility(False)
    a_logic.display.showFrom(0.95)
    a_logic.display.showFrom(0.0)
    assert not roi.GetDisplayVisibility()


def test_a_decision_about_one_of_a_thousand_boxes_is_quick(a_logic, a_review, a_volume, make_view):
    make_view().show(a_volume)
    findings = [a_finding(a_volume, f"organ {n}", range(40), LOW, HIGH) for n in range(25)]
    a_logic.findings.add(a_volume, a_grounding(*findings), "many")
    a_review.accept(a_volume, ["1/1"])
    started = time.process_time()
    a_review.accept(a_volume, ["1/2"])
    assert time.process_time() - started < 0.2


def test_remarks_about_a_volume_are_kept_once(a_review, a_volume):
    a_review.note(a_volume, "motion in the lower third")
    a_review.note(a_volume, "motion in the lower third ")
    a_review.note(a_volume, 'contrast; "late"\nphase')
    table = Findings(a_volume.GetScene()).table(a_volume)
    assert [(n.reviewer, n.text, n.told) for n in notes(table)] == [
        ("Dr A", "motion in the lower third", False),
        ("Dr A", 'contrast; "late"\nphase', False),
    ]
    with pytest.raises(UnusableInput, match="no remark"):
        a_review.note(a_volume, " ")


@pytest.mark.parametrize("kind", ["folder", "bundle"])
def test_the_review_is_saved_with_the_scene_and_restored(
    a_core, a_review, a_found_volume, a_logic, tmp_path, kind
):
    a_review.accept(a_found_volume, ["1/1"])
    a_review.comment(a_found_volume, ["1/1"], 'sharp "edge", sure; ok')
    a_review.edit(a_found_volume, "1/2")
    _move(a_logic, a_found_volume, "1/2", (0, 3, 0))
    a_review.finish()
    a_review.note(a_found_volume, 'late "phase"; x\ny')
    before = a_review.lines(a_found_volume)
    restored = saved_and_loaded(a_core, tmp_path, kind)
    findings = Findings(restored.scene)
    (table,) = findings.tables()
    after = findings.lines(table)
    assert [line[:4] + line[6:] for line in after] == [line[:4] + line[6:] for line in before]
    np.testing.assert_allclose(after[1].size_mm, before[1].size_mm, atol=1e-4)
    assert findings.moved(table) == {"1/2"}
    assert [note.text for note in notes(table)] == ['late "phase"; x\ny']
    review = Review(restored.scene, a_logic, a_logic.display, pytest.fail, lambda: None)
    review.reject(findings.volume(table), ["1/1"])
    assert findings.lines(table)[0].status == "rejected"


def test_a_table_from_before_reviews_is_read(a_scene, a_volume):
    table = a_scene.AddNewNodeByClass("vtkMRMLTableNode")
    table.SetAttribute("BiRD.kind", "findings")
    table.SetNodeReferenceID("BiRD.volume", a_volume.GetID())
    for name in ("prompt", "finding", "label", "score", "plane", "slice", "corners_ras", "model"):
        column = slicer.vtkMRMLTableNode.AddColumn(table)
        column.SetName(name)
    table.AddEmptyRow()
    values = ("1: liver", "1/1", "liver", "0.5", "axial", "3", "0 0 0 1 0 0 1 1 0 0 1 0", "m")
    for n, value in enumerate(values):
        table.SetCellText(0, n, value)
    findings = Findings(a_scene)
    assert findings.lines(table)[0][2:7] == ("liver", 0.5, (3, 3), None, "proposed")
    table.SetCellText(0, 2, "spleen")
    assert findings.lines(table)[0].label == "spleen"
    findings.change(table, "1/1", status="accepted", comment="fine")
    assert findings.lines(table)[0][6:9] == ("accepted", "m", "fine")
