"""`.mrk.json` files, as Slicer's own reader understands them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bird_vlm.contract import Finding, GroundingResult, Roi, SliceBox, VolumeGeometry
from bird_vlm.markups import markups_json

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")


def rotation(axis: int, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = np.eye(3)
    first, second = [i for i in range(3) if i != axis]
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


UPRIGHT = np.eye(3)
LPS_VOLUME = np.diag([-1.0, -1.0, 1.0])
OBLIQUE = rotation(0, 20) @ rotation(2, -35)


def a_finding(label="liver", axes_ras=UPRIGHT, center_ras=(12.5, -30.0, 1040.25)) -> Finding:
    roi = Roi(
        center_ras=center_ras,
        size_mm=(20.0, 35.5, 9.0),
        axes_ras=tuple(tuple(map(float, row)) for row in axes_ras),
    )
    box = SliceBox(7, 0.9, (1.0, 2.0, 3.0, 4.0), ((0.0, 0.0, 0.0),) * 4)
    return Finding(label, 0.873, (7, 9), roi, (box,))


def a_result(*findings: Finding, absent: tuple[str, ...] = ()) -> GroundingResult:
    identity = tuple(tuple(map(float, row)) for row in np.eye(4))
    geometry = VolumeGeometry((10, 10, 10), identity)
    return GroundingResult(geometry, "bird-mini", "axial", None, findings, absent)


@pytest.fixture
def load_in_slicer(tmp_path):
    """Writes a result as `.mrk.json` and returns the ROI nodes that Slicer makes of the file."""
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(scene)

    def load(result: GroundingResult) -> list:
        path = tmp_path / "result.mrk.json"
        path.write_text(json.dumps(markups_json(result), allow_nan=False))
        assert logic.LoadMarkups(str(path), "")
        count = scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode")
        return [scene.GetNthNodeByClass(i, "vtkMRMLMarkupsROINode") for i in range(count)]

    return load


@pytest.mark.parametrize(
    "axes_ras",
    [
        pytest.param(UPRIGHT, id="upright"),
        pytest.param(LPS_VOLUME, id="LPS volume"),
        pytest.param(OBLIQUE, id="oblique"),
        pytest.param(rotation(1, 90), id="lying on its side"),
    ],
)
def test_slicer_reads_back_centre_size_and_axes(load_in_slicer, axes_ras):
    finding = a_finding(axes_ras=axes_ras)

    (roi,) = load_in_slicer(a_result(finding))

    np.testing.assert_allclose(roi.GetCenter(), finding.roi.center_ras, atol=1e-6)
    np.testing.assert_allclose(roi.GetSize(), finding.roi.size_mm, atol=1e-6)
    matrix = roi.GetObjectToWorldMatrix()
    loaded = np.array([[matrix.GetElement(i, j) for j in range(3)] for i in range(3)])
    np.testing.assert_allclose(loaded, axes_ras, atol=1e-6)


def test_label_and_score_survive_in_the_control_point(load_in_slicer):
    (roi,) = load_in_slicer(a_result(a_finding("right kidney")))

    assert roi.GetNthControlPointLabel(0) == "right kidney"
    assert roi.GetNthControlPointDescription(0) == "score 0.87, axial slices 7 to 9, bird-mini"
    assert roi.GetName() == "right kidney"


def test_every_finding_is_one_roi_in_order(load_in_slicer):
    findings = [a_finding(label) for label in ("left lung", "right lung", 'quoted "mass" ü')]

    rois = load_in_slicer(a_result(*findings))

    assert [roi.GetNthControlPointLabel(0) for roi in rois] == [f.label for f in findings]


def test_nothing_found_is_a_file_that_slicer_loads_without_a_box(load_in_slicer):
    (roi,) = load_in_slicer(a_result(absent=("spleen",)))

    assert roi.GetNumberOfControlPoints() == 0
    assert roi.GetName() == "not found: spleen"
