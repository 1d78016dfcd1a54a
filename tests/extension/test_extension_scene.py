"""Geometry between MRML and the server: export, current slice, boxes in, boxes out."""

import filecmp

import nibabel
import numpy as np
import pytest
import SimpleITK
import slicer
import vtk
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import io_orientation

from BiRDLib import scene as geometry
from BiRDLib import views
from BiRDLib.errors import UnusableInput
from grounding import corners_ras
from voxel_grids import GEOMETRIES, affine, rotation

EVERY_GEOMETRY = pytest.mark.parametrize("kind", list(GEOMETRIES))
EVERY_PLANE = pytest.mark.parametrize("plane", geometry.PLANES)


@pytest.fixture
def put_under(a_scene):
    """put_under(node, matrix): gives a node a parent transform."""

    def put(node, matrix):
        transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        node.SetAndObserveTransformNodeID(transform.GetID())
        return transform

    return put


A_MOVE = affine((1, 1, 1), (40, -10, 25), rotation(2, 30) @ rotation(1, 20))


@EVERY_GEOMETRY
def test_export_keeps_voxels_and_matrix(make_volume, tmp_path, kind):
    volume = make_volume(kind)
    path = geometry.writeVolume(geometry.exportCopy(volume), tmp_path)
    image = SimpleITK.ReadImage(path)
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(image), slicer.util.arrayFromVolume(volume)
    )
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    corner = image.TransformContinuousIndexToPhysicalPoint((59.0, 49.0, 39.0))
    expected = GEOMETRIES[kind] @ [59, 49, 39, 1]
    np.testing.assert_allclose(lps_to_ras @ corner, expected[:3], atol=1e-9)


def test_export_reads_back_through_nifti_too(make_volume, tmp_path):
    """The matrix survives the other common reader: ITK writes, nibabel reads."""
    path = geometry.writeVolume(geometry.exportCopy(make_volume("oblique")), tmp_path)
    SimpleITK.WriteImage(SimpleITK.ReadImage(path), str(tmp_path / "v.nii.gz"))
    image = nibabel.load(tmp_path / "v.nii.gz")
    np.testing.assert_allclose(image.affine, GEOMETRIES["oblique"], atol=1e-5)


def test_export_leaves_the_parent_transform_and_the_names_behind(a_volume, put_under, tmp_path):
    put_under(a_volume, A_MOVE)
    a_volume.SetName("Doe^Jane")
    a_volume.SetAttribute("DICOM.PatientName", "Doe^Jane")
    path = geometry.writeVolume(geometry.exportCopy(a_volume), tmp_path)
    with open(path, "rb") as stream:
        assert b"Doe" not in stream.read()
    assert "Doe" not in path
    np.testing.assert_allclose(
        SimpleITK.ReadImage(path).GetOrigin(), GEOMETRIES["ras"][:3, 3] * [-1, -1, 1]
    )


def test_export_takes_the_selected_volume_not_the_last(make_volume, tmp_path):
    selected = make_volume("lps", "first")
    make_volume("ras", "last", (8, 8, 8))
    image = SimpleITK.ReadImage(geometry.writeVolume(geometry.exportCopy(selected), tmp_path))
    assert image.GetSize() == (60, 50, 40)


@pytest.mark.parametrize("compress", [False, True])
def test_the_same_volume_gives_the_same_bytes(a_volume, tmp_path, compress):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        copy = geometry.exportCopy(a_volume)
        files.append(geometry.writeVolume(copy, tmp_path / name, compress))
    assert filecmp.cmp(*files, shallow=False)


def _empty(core):
    return core.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")


def _vector(core):
    node = core.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)
    return node


def _label_map(core):
    node = core.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "organs")
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    node.SetAndObserveImageData(image)
    return node


def _sequence_frame(core):
    frame = core.volume(np.zeros((4, 4, 4), np.int16), np.eye(4), "heart")
    sequence = core.scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    sequence.SetDataNodeAtValue(frame, "0")
    browser = core.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(frame, sequence, False)
    return frame


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda core: None, "No volume is chosen", id="none"),
        pytest.param(_empty, "empty is empty", id="empty"),
        pytest.param(_vector, "3 values per voxel", id="vector"),
        pytest.param(_label_map, "label map", id="label-map"),
        pytest.param(_sequence_frame, "4D sequence", id="sequence"),
    ],
)
def test_unusable_volumes_are_refused_in_clear_words(a_core, make, words):
    with pytest.raises(UnusableInput, match=words) as caught:
        geometry.exportCopy(make(a_core))
    assert caught.value.hint


def test_window_is_the_one_on_the_screen(a_volume):
    assert geometry.shownWindow(a_volume) == (60000.0, 120000.0)
    a_volume.RemoveAllDisplayNodeIDs()
    assert geometry.shownWindow(a_volume) is None


def test_stamp_changes_with_voxels_and_matrix_only(a_volume, put_under):
    stamp = geometry.volumeStamp(a_volume)
    put_under(a_volume, A_MOVE)
    a_volume.SetName("other")
    assert geometry.volumeStamp(a_volume) == stamp
    a_volume.SetOrigin(1, 2, 3)
    moved = geometry.volumeStamp(a_volume)
    slicer.util.arrayFromVolume(a_volume)[0, 0, 0] = 7
    slicer.util.arrayFromVolumeModified(a_volume)
    assert len({stamp, moved, geometry.volumeStamp(a_volume)}) == 3


ANGLES = st.floats(-180, 180)


@given(
    ANGLES, ANGLES, ANGLES, st.permutations(range(3)), st.tuples(*[st.sampled_from((-1, 1))] * 3)
)
def test_axes_are_chosen_as_the_server_chooses_them(x, y, z, order, signs):
    matrix = rotation(0, x) @ rotation(1, y) @ rotation(2, z)
    matrix[:3, :3] = matrix[:3, order] * signs * [0.7, 1.0, 2.5]
    assert geometry.nearestRasAxes(matrix) == io_orientation(matrix)[:, 0].astype(int).tolist()


@EVERY_PLANE
@EVERY_GEOMETRY
def test_current_slice_is_the_one_in_the_middle_of_the_view(make_volume, make_view, kind, plane):
    volume = make_volume(kind)
    axis = geometry.sliceAxis(volume, plane)
    shown = {p: make_view(p, p).show(volume, along_volume=True) for p in geometry.PLANES}
    for index in (0, 7, geometry.shapeIjk(volume)[axis] - 1):
        middle_ijk = (np.array(geometry.shapeIjk(volume)) - 1) / 2
        middle_ijk[axis] = index
        shown[plane].jump((GEOMETRIES[kind] @ [*middle_ijk, 1])[:3])
        assert views.currentSlice(volume.GetScene(), volume, plane) == index


def test_current_slice_follows_the_volumes_transform(a_scene, a_volume, make_view, put_under):
    view = make_view().show(a_volume)
    view.jump((0, 0, 0))
    before = views.currentSlice(a_scene, a_volume, "axial")
    put_under(a_volume, affine((1, 1, 1), (0, 0, 10)))
    assert views.currentSlice(a_scene, a_volume, "axial") == before - 5


def test_current_slice_prefers_the_view_that_shows_the_volume(a_core, make_volume, make_view):
    first, second = make_volume("ras", "first"), make_volume("ras", "second")
    make_view("Red").show(second).jump((0, 0, 20))
    make_view("Red2").show(first).jump((0, 0, -20))
    assert views.currentSlice(a_core.scene, first, "axial") == 10
    assert views.currentSlice(a_core.scene, second, "axial") == 30


def test_current_slice_outside_the_volume_is_refused(a_scene, a_volume, make_view):
    make_view().show(a_volume).jump((0, 0, 500))
    with pytest.raises(UnusableInput, match="outside scan"):
        views.currentSlice(a_scene, a_volume, "axial")


def test_without_a_facing_view_the_crosshair_counts(a_scene, a_volume, make_view):
    make_view("Red", "axial").show(a_volume)
    a_scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(-5.0, 0.0, 0.0)
    assert views.currentSlice(a_scene, a_volume, "sagittal") == 25


STRAIGHT = np.eye(3)


def _roi(scene, center, size, axes=STRAIGHT):
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "my box")
    object_to_node = np.eye(4)
    object_to_node[:3, :3], object_to_node[:3, 3] = axes, center
    roi.SetSize(*size)
    roi.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(object_to_node))
    return roi


def _box_ijk(volume, box_ras):
    """The server's reading of box_ras: (low, high) in continuous IJK."""
    corners = np.c_[np.reshape(box_ras, (2, 3)), np.ones(2)]
    corners_ijk = (corners @ np.linalg.inv(geometry.ijkToRas(volume)).T)[:, :3]
    return corners_ijk.min(0), corners_ijk.max(0)


@pytest.mark.parametrize("moved", [False, True], ids=["", "transformed"])
@EVERY_GEOMETRY
def test_roi_along_the_volume_is_sent_as_it_stands(make_volume, put_under, kind, moved):
    volume = make_volume(kind)
    low, high = np.array([9.5, 19.5, 4.5]), np.array([29.5, 39.5, 14.5])
    matrix = GEOMETRIES[kind]
    if moved:
        put_under(volume, A_MOVE)
        matrix = A_MOVE @ matrix
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    axes = matrix[:3, :3] / spacing
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    center = (matrix @ [*(low + high) / 2, 1])[:3]
    roi = _roi(volume.GetScene(), center, (high - low) * spacing, axes)
    found = _box_ijk(volume, geometry.boxOfRoi(volume, roi))
    np.testing.assert_allclose(found, (low, high), atol=1e-3)


def test_roi_with_its_own_transform(a_volume, put_under):
    roi = _roi(a_volume.GetScene(), (0, 0, 0), (10, 10, 10))
    put_under(roi, affine((1, 1, 1), (5, 0, 0)))
    box_ras = geometry.boxOfRoi(a_volume, roi)
    np.testing.assert_allclose(box_ras, (0, -5, -5, 10, 5, 5), atol=1e-6)


def test_turned_roi_gives_the_box_around_it(a_volume):
    roi = _roi(a_volume.GetScene(), (0, 0, 0), (10, 10, 4), rotation(2, 45)[:3, :3])
    half = 5 * np.sqrt(2)
    np.testing.assert_allclose(
        geometry.boxOfRoi(a_volume, roi), (-half, -half, -2, half, half, 2), atol=1e-6
    )


def test_roi_is_clipped_to_the_volume(a_volume):
    box_ras = geometry.boxOfRoi(a_volume, _roi(a_volume.GetScene(), (-30, 0, 0), (20, 10, 10)))
    np.testing.assert_allclose(box_ras, (-30.5, -5, -5, -20, 5, 5), atol=1e-6)


def test_roi_outside_the_volume_is_refused(a_volume):
    with pytest.raises(UnusableInput, match="my box lies outside scan"):
        geometry.boxOfRoi(a_volume, _roi(a_volume.GetScene(), (200, 0, 0), (10, 10, 10)))


def test_an_undrawn_roi_is_refused(a_volume):
    undrawn = a_volume.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode")
    for roi in (None, undrawn):
        with pytest.raises(UnusableInput, match="No box is drawn"):
            geometry.boxOfRoi(a_volume, roi)


def test_roi_prompt_under_a_warp(a_scene, a_volume):
    """A nonlinear transform of the volume is honoured too: here a thin-plate shift by 10 mm."""
    warp = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in [(x, y, z) for x in (-90, 90) for y in (-90, 90) for z in (-90, 90)]:
        source.InsertNextPoint(corner)
        target.InsertNextPoint(corner[0] + 10, corner[1], corner[2])
    warp.SetSourceLandmarks(source)
    warp.SetTargetLandmarks(target)
    node = a_scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(warp)
    a_volume.SetAndObserveTransformNodeID(node.GetID())
    box_ras = geometry.boxOfRoi(a_volume, _roi(a_scene, (10, 0, 0), (10, 10, 10)))
    np.testing.assert_allclose(box_ras, (-5, -5, -5, 5, 5, 5), atol=0.1)


@EVERY_PLANE
@EVERY_GEOMETRY
def test_a_slice_box_is_a_slab_of_one_slice(make_volume, kind, plane):
    volume = make_volume(kind)
    axis = geometry.sliceAxis(volume, plane)
    corners = corners_ras(volume, axis, 6, (9.5, 4.5), (20.5, 12.5))
    slabs = geometry.slabsOfSliceBoxes(volume, plane, [corners])
    center, size, axes = (part[0] for part in slabs)
    roi = volume.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode")
    geometry.placeRoi(roi, volume, center, size, axes)
    low, high = np.array([9.5, 4.5]), np.array([20.5, 12.5])
    expected = np.insert(low, axis, 5.5), np.insert(high, axis, 6.5)
    found = _box_ijk(volume, geometry.boxOfRoi(volume, roi))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_placed_roi_moves_with_the_volume(a_volume, put_under):
    transform = put_under(a_volume, np.eye(4))
    roi = a_volume.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode")
    geometry.placeRoi(roi, a_volume, (1, 2, 3), (4, 5, 6), np.eye(3))
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(A_MOVE))
    center = [0.0, 0.0, 0.0]
    roi.GetCenterWorld(center)
    np.testing.assert_allclose(center, (A_MOVE @ [1, 2, 3, 1])[:3], atol=1e-6)
    center_ras, size_mm, axes_ras = geometry.boxOfNode(roi)
    np.testing.assert_allclose((*center_ras, *size_mm), (1, 2, 3, 4, 5, 6))
    np.testing.assert_allclose(axes_ras, np.eye(3))
