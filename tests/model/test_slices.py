"""Slices: pictures and matrices agree, whatever way the volume lies."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.boxes import mask_to_box_pixel, norm_to_pixel, pixel_to_norm
from bird_vlm.contract import PLANES, VolumeGeometry
from bird_vlm.errors import BadRequestError
from bird_vlm.grammar import format_present, parse_grounding
from bird_vlm.slices import slice_stack
from geometries import geometries, norm_boxes, planes

RIGHT, ANTERIOR, SUPERIOR = np.eye(3)
LEFT, POSTERIOR, INFERIOR = -RIGHT, -ANTERIOR, -SUPERIOR


def step_ras(stack, dx: float, dy: float) -> np.ndarray:
    """Where a step in the picture goes in the patient."""
    return stack.pixel_to_ras(0)[:3, :3] @ [dx, dy, 0.0]


@given(geometries(), planes, st.data())
def test_a_marked_voxel_shows_at_the_pixel_that_the_matrix_says(geometry, plane, data):
    ijk = data.draw(st.tuples(*(st.integers(0, edge - 1) for edge in geometry.shape_ijk)))
    array = np.zeros(geometry.shape_ijk)
    array[ijk] = 1
    stack = slice_stack(geometry, plane)
    index = ijk[stack.slice_axis]

    picture = stack.cut(array, index)

    assert picture.shape == (stack.height, stack.width)
    (row,), (column,) = np.nonzero(picture)
    centre_ras = stack.pixel_to_ras(index) @ [column + 0.5, row + 0.5, 0, 1]
    np.testing.assert_allclose(centre_ras, np.array(geometry.ijk_to_ras) @ [*ijk, 1], atol=1e-9)


@given(geometries(), planes)
def test_other_slices_lie_one_step_further(geometry, plane):
    stack = slice_stack(geometry, plane)
    further = stack.pixel_to_ras(3) @ [1, 2, 0, 1]
    np.testing.assert_allclose(stack.pixel_to_ras(1) @ [1, 2, 2, 1], further, atol=1e-9)


@given(geometries(), planes, st.data())
def test_a_reoriented_volume_gives_the_same_pictures(geometry, plane, data):
    array = np.arange(np.prod(geometry.shape_ijk), dtype=np.int32).reshape(geometry.shape_ijk)
    image = nibabel.Nifti1Image(array, np.array(geometry.ijk_to_ras))
    canonical = nibabel.as_closest_canonical(image)
    stack = slice_stack(geometry, plane)
    other = slice_stack(
        VolumeGeometry(canonical.shape, tuple(map(tuple, canonical.affine.tolist()))), plane
    )
    index = data.draw(st.integers(0, stack.count - 1))
    to_other = np.linalg.inv(other.pixel_to_ras(0)) @ stack.pixel_to_ras(index)
    other_index = round(float(to_other[2, 3]))

    picture = other.cut(np.asanyarray(canonical.dataobj), other_index)

    np.testing.assert_array_equal(picture, stack.cut(array, index))


@given(geometries())
def test_display_is_radiological(geometry):
    towards = {
        "axial": (LEFT, POSTERIOR),
        "coronal": (LEFT, INFERIOR),
        "sagittal": (POSTERIOR, INFERIOR),
    }
    for plane, (rightwards, downwards) in towards.items():
        stack = slice_stack(geometry, plane)
        assert step_ras(stack, 1, 0) @ rightwards > 0
        assert step_ras(stack, 0, 1) @ downwards > 0


def test_the_patients_right_is_on_the_left_of_an_axial_picture():
    array = np.zeros((10, 10, 3))
    array[7:, 7:, 1] = 1  # RAS axes: high i = right, high j = anterior
    stack = slice_stack(VolumeGeometry(array.shape, tuple(map(tuple, np.eye(4)))), "axial")
    assert mask_to_box_pixel(stack.cut(array, 1)) == (0, 0, 3, 3)


@given(geometries(), planes, norm_boxes(), st.data())
def test_text_to_ras_and_back_loses_nothing(geometry, plane, box_norm, data):
    stack = slice_stack(geometry, plane)
    index = data.draw(st.integers(0, stack.count - 1))

    (answered_norm,) = parse_grounding(format_present("liver", (box_norm,))).boxes_norm
    box_pixel = norm_to_pixel(answered_norm, stack.width, stack.height)
    corners = stack.corners_ras(index, box_pixel)
    index_back, box_pixel_back = stack.box_from_ras((*corners[0], *corners[2]))

    assert index_back == index
    np.testing.assert_allclose(box_pixel_back, box_pixel, atol=1e-8)
    assert pixel_to_norm(box_pixel_back, stack.width, stack.height) == box_norm


@given(geometries(), planes, norm_boxes())
def test_corners_go_clockwise_from_the_top_left(geometry, plane, box_norm):
    stack = slice_stack(geometry, plane)
    x0, y0, x1, y1 = norm_to_pixel(box_norm, stack.width, stack.height)
    corners = np.array(stack.corners_ras(0, (x0, y0, x1, y1)))
    np.testing.assert_allclose(corners[1] - corners[0], step_ras(stack, x1 - x0, 0), atol=1e-8)
    np.testing.assert_allclose(corners[2] - corners[1], step_ras(stack, 0, y1 - y0), atol=1e-8)
    np.testing.assert_allclose(corners[3] - corners[0], step_ras(stack, 0, y1 - y0), atol=1e-8)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    "phantom", ["a_phantom_volume", "an_oblique_volume", "a_left_handed_volume"]
)
def test_a_box_around_the_block_comes_back_from_its_corners_in_space(phantom, plane, request):
    phantom = request.getfixturevalue(phantom)
    stack = slice_stack(phantom.volume.geometry(), plane)
    ends = np.add([phantom.first_ijk, phantom.last_ijk], [[-0.5] * 3, [0.5] * 3])
    box_ras = (phantom.volume.ijk_to_ras @ np.c_[ends, np.ones(2)].T)[:3].T.ravel()

    index, box_pixel = stack.box_from_ras(tuple(box_ras))

    axis = stack.slice_axis
    assert phantom.first_ijk[axis] <= index <= phantom.last_ijk[axis]
    expected = mask_to_box_pixel(stack.cut(phantom.mask, index))
    np.testing.assert_allclose(box_pixel, expected, atol=1e-9)


def test_a_box_that_sticks_out_is_clipped_to_the_picture(a_phantom_volume):
    stack = slice_stack(a_phantom_volume.volume.geometry(), "axial")
    index, box_pixel = stack.box_from_ras((-900, -900, -900, 900, 900, 900))
    assert box_pixel == (0, 0, stack.width, stack.height)
    assert index in (5, 6)


@pytest.mark.parametrize(
    "box_ras",
    [
        pytest.param((500, 0, 0, 600, 10, 10), id="beside"),
        pytest.param((0, 0, 300, 10, 10, 400), id="above"),
        pytest.param((31, 0, -40, 90, 10, 10), id="touching the border"),
    ],
)
def test_a_box_outside_the_volume_is_refused(box_ras, a_phantom_volume):
    stack = slice_stack(a_phantom_volume.volume.geometry(), "axial")
    with pytest.raises(BadRequestError, match="outside the volume"):
        stack.box_from_ras(box_ras)


@pytest.mark.parametrize("index", [-1, 12, 1000])
def test_a_slice_beyond_the_stack_is_refused(index, a_phantom_volume):
    stack = slice_stack(a_phantom_volume.volume.geometry(), "axial")
    with pytest.raises(BadRequestError, match=r"0\.\.11"):
        stack.cut(a_phantom_volume.volume.array, index)


def test_a_colour_picture_is_its_own_axial_slice():
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    array = picture.swapaxes(0, 1)[:, :, None]
    lps = tuple(map(tuple, np.diag([-1.0, -1.0, 1.0, 1.0]).tolist()))
    stack = slice_stack(VolumeGeometry(array.shape[:3], lps), "axial")
    np.testing.assert_array_equal(stack.cut(array, 0), picture)
