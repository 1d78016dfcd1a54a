"""Saved label files as decisions about findings: markups and label maps of a studies folder."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from bird_server.review.editing import drawn
from bird_server.review.records import Drawing, NewCase, Places
from bird_server.review.taking import take_drawings
from bird_server.serve import app_folder
from bird_vlm.contract import GroundingResult
from bird_vlm.markups import markups_json
from bird_vlm.volumes import Volume
from review_cases import GEOMETRY, a_finding, by

CASE = NewCase("d1", "scan.nii.gz")


@pytest.fixture(scope="module", autouse=True)
def _app_folder_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(app_folder()))
        yield


@pytest.fixture
def an_oblique_volume() -> Volume:
    turn = np.deg2rad(20)
    matrix = np.diag([-1.5, 1.5, 3.0, 1.0])
    matrix[:2, :2] @= [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = 30, -20, 10
    return Volume(np.random.default_rng(1).normal(size=(20, 24, 9)).astype(np.float32), matrix)


def take(store, *drawings):
    return take_drawings(store, CASE, GEOMETRY, Places(), drawings, "ann")


def test_the_same_box_accepts(a_store, a_liver):
    taken = take(a_store, Drawing("Liver", roi=a_finding().roi))

    assert taken.accepted == [a_liver]
    assert a_store.finding(a_liver).status == "accepted"
    assert take(a_store, Drawing("liver", roi=a_finding().roi)).known == [a_liver]


def test_a_moved_box_edits(a_store, a_liver):
    moved = a_finding(box_pixel=(5.0, 6.0, 15.0, 19.0))

    taken = take(a_store, Drawing("liver", roi=moved.roi))

    assert taken.edited == [a_liver]
    assert a_store.finding(a_liver).content.roi == moved.roi


@pytest.mark.parametrize(
    ("label", "finding"),
    [
        pytest.param("spleen", a_finding(), id="another label"),
        pytest.param("liver", a_finding(box_pixel=(25.0, 2.0, 35.0, 9.0)), id="elsewhere"),
    ],
)
def test_anything_else_is_drawn_by_hand(a_store, a_liver, label, finding):
    taken = take(a_store, Drawing(label, roi=finding.roi))

    assert len(taken.added) == 1
    assert a_store.finding(taken.added[0]).by_hand
    assert a_store.finding(a_liver).status == "proposed"


def test_a_finding_is_taken_for_one_drawing_only(a_store, a_liver):
    taken = take(a_store, *[Drawing("liver", roi=a_finding().roi)] * 2)

    assert (taken.accepted, len(taken.added)) == ([a_liver], 1)


def test_a_rejected_finding_stays_rejected(a_store, a_liver):
    a_store.reject(a_liver, by("bob", 1))

    taken = take(a_store, Drawing("liver", roi=a_finding().roi))

    assert len(taken.added) == 1
    assert a_store.finding(a_liver).status == "rejected"


def test_boxes_on_slices_accept_and_edit_too(a_store, a_liver):
    boxes = tuple((box.slice, box.box_pixel) for box in a_finding().boxes)

    assert take(a_store, Drawing("liver", boxes=boxes)).accepted == [a_liver]
    assert take(a_store, Drawing("liver", boxes=boxes[:-1])).edited == [a_liver]


def test_markups_of_ours_come_back_as_they_went(tmp_path, an_oblique_volume):
    from lib.label_files import drawings_of

    geometry = an_oblique_volume.geometry()
    finding = a_finding(first=2, last=5, geometry=geometry)
    result = GroundingResult(geometry, "m", "axial", None, (finding,), ())
    path = tmp_path / "label.mrk.json"
    path.write_text(json.dumps(markups_json(result)))

    (drawing,) = drawings_of(path, an_oblique_volume, {})

    assert drawing.label == "liver"
    assert drawing.roi.center_ras == pytest.approx(finding.roi.center_ras, abs=1e-6)
    assert drawing.roi.size_mm == pytest.approx(finding.roi.size_mm, abs=1e-6)
    assert np.allclose(drawing.roi.axes_ras, finding.roi.axes_ras, atol=1e-6)
    boxes = drawn(drawing, geometry).boxes
    assert [box.slice for box in boxes] == [2, 3, 4, 5]


def test_a_label_map_becomes_boxes_around_its_areas(tmp_path, an_oblique_volume):
    from lib.label_files import drawings_of

    values = np.zeros((20, 24, 9), np.uint8)
    values[2:8, 3:9, 1:4] = 1
    values[12:18, 14:20, 5:8] = 2
    values[19, 23, 8] = 2  # a speck
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, an_oblique_volume.ijk_to_ras), path)

    liver, spleen = drawings_of(path, an_oblique_volume, {1: "liver", 2: "spleen"})

    assert (liver.label, [index for index, _ in liver.boxes]) == ("liver", [1, 2, 3])
    assert {(x1 - x0, y1 - y0) for _, (x0, y0, x1, y1) in liver.boxes} == {(6.0, 6.0)}
    assert [index for index, _ in spleen.boxes] == [5, 6, 7]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("label.json", b"{", "no ROI markups", id="no json"),
        pytest.param("label.mrk.json", b'{"markups": 3}', "no ROI markups", id="no markups"),
        pytest.param("label.json", b"[" * 10**6, "no ROI markups", id="too deep"),
        pytest.param("label.nii.gz", b"", "label_info", id="no names"),
    ],
)
def test_a_label_that_cannot_be_told_says_why(tmp_path, an_oblique_volume, name, content, words):
    from lib.label_files import UntoldLabelError, drawings_of

    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(UntoldLabelError, match=words):
        drawings_of(path, an_oblique_volume, {})


def test_a_label_map_on_another_grid_is_not_told(tmp_path, an_oblique_volume):
    from lib.label_files import UntoldLabelError, drawings_of

    path = tmp_path / "label.nii.gz"
    values = np.ones((20, 24, 9), np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)

    with pytest.raises(UntoldLabelError, match="another grid"):
        drawings_of(path, an_oblique_volume, {1: "liver"})


@pytest.mark.parametrize(
    ("params", "names"),
    [
        pytest.param({"label_info": [{"name": "liver", "idx": 1}]}, {1: "liver"}, id="plugin"),
        pytest.param({"label_info": [{"name": 3, "idx": 1}, {"idx": 2}, 5]}, {}, id="nonsense"),
        pytest.param({"label_info": "liver"}, {}, id="text"),
        pytest.param({}, {}, id="nothing"),
        pytest.param(None, {}, id="none"),
    ],
)
def test_names_of_a_label_maps_values(params, names):
    from lib.label_files import label_names

    assert label_names(params) == names
