"""Findings for other modules: segments, Crop Volume, .mrk.json."""

import json

import numpy as np
import pytest
import slicer
import vtk

from BiRDLib import scene as geometry
from BiRDLib.errors import UnusableInput
from BiRDLib.findings import Findings
from BiRDLib.handover import crop_roi, write_markups
from BiRDLib.places import Place
from BiRDLib.rasters import patch_of_place
from BiRDLib.segments import FILLS, add_segments
from grounding import a_finding, a_grounding
from voxel_grids import GEOMETRIES, rotation

LOW, HIGH = (9.5, 9.5), (29.5, 24.5)
BOX, THRESHOLD, GROW = FILLS
EVERY_GEOMETRY = pytest.mark.parametrize("kind", list(GEOMETRIES))


@pytest.fixture
def make_found(make_volume):
    """make_found(kind): a volume with a liver on slices 4..8 and a spleen on 6."""

    def make(kind="ras", plane="axial"):
        volume = make_volume(kind)
        liver = a_finding(volume, "liver", range(4, 9), LOW, HIGH, plane)
        spleen = a_finding(volume, "spleen", [6], LOW, (19.5, 19.5), plane)
        grounding = a_grounding(liver, spleen, plane=plane)
        Findings(volume.GetScene()).add(volume, grounding, "liver, spleen")
        return volume

    return make


def _mask(node, segment_id, volume):
    """The segment as Slicer exports it onto the volume's grid, (I, J, K)."""
    scene = volume.GetScene()
    segment_ids = vtk.vtkStringArray()
    segment_ids.InsertNextValue(segment_id)
    exported = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ExportSegmentsToLabelmapNode(node, segment_ids, exported, volume)
    np.testing.assert_allclose(geometry.ijkToRas(exported), geometry.ijkToRas(volume), atol=1e-6)
    mask = slicer.util.arrayFromVolume(exported).transpose(2, 1, 0) > 0
    scene.RemoveNode(exported)
    return mask


def _expected(volume, plane="axial"):
    mask = np.zeros(geometry.shapeIjk(volume), dtype=bool)
    axis = geometry.sliceAxis(volume, plane)
    box = [slice(10, 30), slice(10, 25)]
    box.insert(axis, slice(4, 9))
    mask[tuple(box)] = True
    return mask


@EVERY_GEOMETRY
@pytest.mark.parametrize("plane", geometry.PLANES)
def test_a_box_fills_its_voxels(make_found, kind, plane):
    volume = make_found(kind, plane)
    node, (segment_id,) = add_segments(volume.GetScene(), volume, ["1/1"])
    np.testing.assert_array_equal(_mask(node, segment_id, volume), _expected(volume, plane))
    segment = node.GetSegmentation().GetSegment(segment_id)
    assert segment.GetName() == "liver"


def test_new_segments_never_change_those_that_are_there(make_found):
    volume = make_found()
    scene = volume.GetScene()
    node, (first,) = add_segments(scene, volume, ["1/1"])
    before = _mask(node, first, volume)
    same, more = add_segments(scene, volume, ["1/1", "1/2"], target=node)
    assert same is node
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(3)]
    assert names == ["liver", "liver 2", "spleen"]
    assert len({first, *more}) == 3
    np.testing.assert_array_equal(_mask(node, first, volume), before)
    np.testing.assert_array_equal(_mask(node, more[0], volume), before)
    other, _ = add_segments(scene, volume, ["1/1"])
    assert other is not node


def test_a_moved_finding_is_filled_where_it_stands(make_found):
    volume = make_found()
    findings = Findings(volume.GetScene())
    table = findings.table(volume)
    place = findings.place(table, "1/1")
    findings.setPlace(
        table, "1/1", place._replace(center_ras=place.center_ras + np.array([3.0, 0, 0]))
    )
    node, (segment_id,) = add_segments(volume.GetScene(), volume, ["1/1"])
    expected = np.roll(_expected(volume), 3, axis=0)
    np.testing.assert_array_equal(_mask(node, segment_id, volume), expected)


@EVERY_GEOMETRY
def test_a_turned_box_holds_its_volume(make_volume, kind):
    volume = make_volume(kind)
    center = geometry.ijkToRas(volume) @ [30, 25, 20, 1]
    axes = rotation(2, 30)[:3, :3] @ rotation(0, 40)[:3, :3]
    patch = patch_of_place(volume, Place(center[:3], np.array([20.0, 16.0, 30.0]), axes))
    voxel_mm3 = abs(np.linalg.det(geometry.ijkToRas(volume)[:3, :3]))
    assert patch.mask.sum() * voxel_mm3 == pytest.approx(20 * 16 * 30, rel=0.05)


@pytest.fixture
def a_ball(a_core):
    """A bright ball of radius 8 in a dim, noisy surrounding; its box is a finding."""
    grid = np.stack(np.meshgrid(*map(np.arange, (40, 40, 40)), indexing="ij"))
    ball = np.sqrt(((grid - 20.0) ** 2).sum(axis=0)) <= 8
    noise = np.random.default_rng(3).normal(0, 10, ball.shape)
    array = (np.where(ball, 150, 20) + noise).astype(np.int16)
    volume = a_core.volume(array.transpose(2, 1, 0), GEOMETRIES["lps"], "ball")
    finding = a_finding(volume, "cyst", range(12, 29), (11.5, 11.5), (28.5, 28.5))
    Findings(a_core.scene).add(volume, a_grounding(finding), "cyst")
    return volume, ball


@pytest.mark.parametrize("fill", [THRESHOLD, GROW])
@pytest.mark.parametrize("bright", [True, False])
def test_within_the_box_the_object_is_found(a_ball, fill, bright):
    volume, ball = a_ball
    if not bright:
        array = slicer.util.arrayFromVolume(volume)
        array[:] = 200 - array
    node, (segment_id,) = add_segments(volume.GetScene(), volume, ["1/1"], fill=fill)
    mask = _mask(node, segment_id, volume)
    dice = 2 * (mask & ball).sum() / (mask.sum() + ball.sum())
    assert dice > 0.95


def test_segments_move_with_the_volume_and_refuse_a_foreign_transform(a_scene, make_found):
    volume = make_found("oblique")
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    plain, _ = add_segments(a_scene, volume, ["1/1"])
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node, _ = add_segments(a_scene, volume, ["1/1"])
    assert node.GetTransformNodeID() == transform.GetID()
    with pytest.raises(UnusableInput, match="different transforms"):
        add_segments(a_scene, volume, ["1/1"], target=plain)
    assert plain.GetSegmentation().GetNumberOfSegments() == 1


def test_nothing_chosen_makes_no_node(a_scene, make_found, tmp_path):
    volume = make_found()
    before = a_scene.GetNumberOfNodes()
    for use in (
        lambda: add_segments(a_scene, volume, []),
        lambda: crop_roi(a_scene, volume, ["9/9"]),
        lambda: write_markups(a_scene, volume, [], tmp_path / "x.mrk.json"),
    ):
        with pytest.raises(UnusableInput):
            use()
    assert a_scene.GetNumberOfNodes() == before


@EVERY_GEOMETRY
def test_the_crop_holds_the_findings_and_stays_in_the_volume(make_found, kind):
    volume = make_found(kind)
    scene = volume.GetScene()
    rois = Findings(scene).rois(Findings(scene).table(volume))
    roi, parameters = crop_roi(scene, volume, ["1/1", "1/2"], margin_mm=4.0)
    to_ijk = np.linalg.inv(geometry.ijkToRas(volume))
    edges = [_edges(volume, node, to_ijk) for node in (roi, rois["1/1"])]
    spacing = np.linalg.norm(geometry.ijkToRas(volume)[:3, :3], axis=0)
    low = np.maximum(edges[1][0] - 4.0 / spacing, -0.5)
    high = np.minimum(edges[1][1] + 4.0 / spacing, np.array(geometry.shapeIjk(volume)) - 0.5)
    np.testing.assert_allclose(edges[0], [low, high], atol=1e-3)
    assert parameters.GetROINodeID() == roi.GetID()
    assert parameters.GetInputVolumeNodeID() == volume.GetID()


def _edges(volume, roi, to_ijk):
    corners = np.reshape(geometry.boxOfRoi(volume, roi), (2, 3)) @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    return corners.min(0), corners.max(0)


@EVERY_GEOMETRY
def test_markups_are_saved_in_one_file_and_load_as_they_were(make_found, tmp_path, kind):
    volume = make_found(kind)
    scene, path = volume.GetScene(), tmp_path / "findings.mrk.json"
    write_markups(scene, volume, ["1/1", "1/2"], path)
    document = json.loads(path.read_text())
    assert [markup["type"] for markup in document["markups"]] == ["ROI", "ROI"]
    labels = [markup["controlPoints"][0]["label"] for markup in document["markups"]]
    assert labels == ["liver", "spleen"]
    other = slicer.vtkMRMLScene()
    loaded = other.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(loaded)
    first = Findings(scene).rois(Findings(scene).table(volume))["1/1"]
    for part, expected in zip(geometry.boxOfNode(loaded), geometry.boxOfNode(first), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-4)


def test_a_file_that_cannot_be_written_is_told(make_found, tmp_path):
    volume = make_found()
    with pytest.raises(UnusableInput, match="cannot be written"):
        write_markups(volume.GetScene(), volume, ["1/1"], tmp_path / "none" / "x.mrk.json")
