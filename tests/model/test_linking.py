"""Linking: boxes on slices become the objects that they show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.boxes import mask_to_box_pixel
from bird_vlm.contract import Finding, SliceBox, VolumeGeometry
from bird_vlm.linking import link_findings, roi_around
from bird_vlm.slices import SliceStack, slice_stack
from geometries import matrices, planes


def a_stack(spacing_mm: float = 5.0, count: int = 40) -> SliceStack:
    """Axial slices of 100 x 100 pixels of one millimetre, in LPS axes."""
    rows = tuple(map(tuple, np.diag([-1.0, -1.0, spacing_mm, 1.0]).tolist()))
    return slice_stack(VolumeGeometry((100, 100, count), rows), "axial")


def a_box(stack: SliceStack, index: int, box_pixel, score: float = 0.9) -> SliceBox:
    box_pixel = tuple(map(float, box_pixel))
    return SliceBox(index, score, box_pixel, stack.corners_ras(index, box_pixel))


def boxes_of(stack: SliceStack, mask: np.ndarray) -> list[SliceBox]:
    """The box of a mask on every slice that shows it."""
    found = {k: mask_to_box_pixel(stack.cut(mask, k)) for k in range(stack.count)}
    return [a_box(stack, k, box) for k, box in found.items() if box]


def ends_along_axes(finding: Finding) -> tuple[np.ndarray, np.ndarray]:
    axes = np.array(finding.roi.axes_ras)
    center, half = finding.roi.center_ras @ axes, np.array(finding.roi.size_mm) / 2
    return center - half, center + half


LIVER, SPLEEN = (10, 20, 60, 80), (70, 30, 90, 60)
TINY = (30, 40, 34, 44)


@pytest.mark.parametrize(
    ("slices_and_boxes", "spacing_mm", "expected"),
    [
        pytest.param([], 5, [], id="nothing"),
        pytest.param([(7, LIVER)], 5, [(7, 7)], id="one slice"),
        pytest.param([(k, LIVER) for k in range(3, 9)], 5, [(3, 8)], id="one object"),
        pytest.param([(k, LIVER) for k in (8, 3, 5, 4, 7, 6)], 5, [(3, 8)], id="any order"),
        pytest.param(
            [(k, b) for k in range(3, 9) for b in (LIVER, SPLEEN)],
            5,
            [(3, 8), (3, 8)],
            id="side by side",
        ),
        pytest.param([(3, LIVER), (4, LIVER), (6, LIVER)], 20, [(3, 6)], id="one slice missing"),
        pytest.param([(3, LIVER), (4, LIVER), (7, LIVER)], 20, [(3, 4), (7, 7)], id="40 mm gap"),
        pytest.param([(3, LIVER), (6, LIVER)], 5, [(3, 6)], id="10 mm gap"),
        pytest.param([(3, LIVER), (7, LIVER)], 5, [(3, 3), (7, 7)], id="15 mm gap"),
        pytest.param([(3, LIVER), (14, LIVER)], 1, [(3, 14)], id="10 thin slices missing"),
        pytest.param([(3, LIVER), (15, LIVER)], 1, [(3, 3), (15, 15)], id="11 thin missing"),
        pytest.param([(3, TINY), (4, (15, 25, 60, 70))], 5, [(3, 4)], id="pole of a sphere"),
        pytest.param([(3, (6, 30, 16, 40)), (4, LIVER)], 5, [(3, 4)], id="end mostly inside"),
        pytest.param([(3, (3, 30, 13, 40)), (4, LIVER)], 5, [(3, 3), (4, 4)], id="end beside"),
        pytest.param([(3, LIVER), (4, SPLEEN)], 5, [(3, 3), (4, 4)], id="elsewhere"),
        pytest.param([(3, LIVER), (3, LIVER), (4, LIVER)], 5, [(3, 4)], id="said twice"),
    ],
)
def test_which_slices_belong_together(slices_and_boxes, spacing_mm, expected):
    stack = a_stack(spacing_mm)
    boxes = [a_box(stack, k, box) for k, box in slices_and_boxes]
    findings = link_findings("it", boxes, stack)
    assert sorted(finding.slices for finding in findings) == expected
    assert all(finding.label == "it" for finding in findings)


def test_crossing_objects_keep_their_course():
    stack = a_stack()
    down = [a_box(stack, k, (10 + 6 * k, 10, 40 + 6 * k, 40)) for k in range(8)]
    up = [a_box(stack, k, (52 - 6 * k, 45, 82 - 6 * k, 75)) for k in range(8)]
    findings = link_findings("it", down + up, stack)
    assert {finding.boxes for finding in findings} == {tuple(down), tuple(up)}


@pytest.mark.parametrize("joined", [None, 15], ids=["apart", "joined on one slice"])
def test_two_lungs_stay_two(joined):
    i, j, k = np.mgrid[:100, :100, :30]
    swelling = ((j - 50) / 40) ** 2 + ((k - 15) / 14) ** 2 <= 1
    right, left = swelling & (i >= 8) & (i < 49), swelling & (i >= 51) & (i < 92)
    stack = a_stack(count=30)
    lungs = [boxes_of(stack, right), boxes_of(stack, left)]
    boxes = [box for lung in lungs for box in lung if box.slice != joined]
    if joined is not None:
        boxes.append(a_box(stack, joined, mask_to_box_pixel(stack.cut(right | left, joined))))

    findings = link_findings("lung", boxes, stack)

    assert len(findings) == 2
    widths = sorted(finding.roi.size_mm[0] for finding in findings)
    assert widths == pytest.approx([41, 41])
    centres = sorted(finding.roi.center_ras[0] for finding in findings)
    assert centres == pytest.approx([-71, -28])


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize(
    "phantom", ["a_phantom_volume", "an_oblique_volume", "a_left_handed_volume"]
)
def test_the_roi_of_a_block_is_the_block(phantom, plane, request):
    phantom = request.getfixturevalue(phantom)
    stack = slice_stack(phantom.volume.geometry(), plane)
    (finding,) = link_findings("block", boxes_of(stack, phantom.mask), stack)

    spacing = np.linalg.norm(phantom.volume.ijk_to_ras[:3, :3], axis=0)
    edges = np.subtract(phantom.last_ijk, phantom.first_ijk) + 1
    middle = np.add(phantom.first_ijk, phantom.last_ijk) / 2
    np.testing.assert_allclose(finding.roi.size_mm, edges * spacing)
    centre = phantom.volume.ijk_to_ras @ [*middle, 1]
    np.testing.assert_allclose(finding.roi.center_ras, centre[:3], atol=1e-9)


@given(matrices(), planes, st.data())
def test_the_roi_is_right_handed_and_holds_every_box_of_a_growing_object(matrix, plane, data):
    stack = slice_stack(VolumeGeometry((30, 30, 30), tuple(map(tuple, matrix.tolist()))), plane)
    grown = np.cumsum(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=6)))
    boxes = [a_box(stack, 5 + k, (10 - g, 9 - g, 15 + g, 19 + g)) for k, g in enumerate(grown)]

    (finding,) = link_findings("it", boxes, stack)

    axes = np.array(finding.roi.axes_ras)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1)
    low, high = ends_along_axes(finding)
    positions = np.array([corner for box in boxes for corner in box.corners_ras]) @ axes
    assert (positions >= low - 1e-6).all()
    assert (positions <= high + 1e-6).all()
    thickness = (high - low)[np.argmax(np.abs(axes.T @ stack.ijk_to_ras[:3, stack.slice_axis]))]
    assert thickness == pytest.approx(len(boxes) * stack.spacing_mm)


def test_a_sheared_volume_has_an_upright_roi_that_holds_its_boxes():
    rows = ((1.0, 0, 0, 0), (0, 1.0, 0.4, 0), (0, 0, 3.0, 0), (0, 0, 0, 1))  # a tilted gantry
    stack = slice_stack(VolumeGeometry((50, 50, 20), rows), "axial")
    boxes = [a_box(stack, k, (10, 10, 30, 30)) for k in range(5, 12)]
    (finding,) = link_findings("it", boxes, stack)
    low, high = ends_along_axes(finding)
    positions = np.array([c for b in boxes for c in b.corners_ras]) @ finding.roi.axes_ras
    assert (positions >= low - 1e-6).all()
    assert (positions <= high + 1e-6).all()


@pytest.mark.parametrize("wrong", [4, 5, 8], ids=["second", "third", "middle"])
def test_one_wrong_slice_does_not_blow_up_the_roi(wrong):
    stack = a_stack()
    boxes = [a_box(stack, k, LIVER) for k in range(3, 14)]
    boxes[wrong - 3] = a_box(stack, wrong, (0, 0, 100, 100))
    (finding,) = link_findings("liver", boxes, stack)
    assert finding.roi == roi_around([a_box(stack, k, LIVER) for k in range(3, 14)], stack)
    assert len(finding.boxes) == 11


@pytest.mark.parametrize(
    ("slices", "spacing_mm", "asked", "expected"),
    [
        pytest.param(range(3, 9), 5, None, 0.8, id="thick object"),
        pytest.param([3], 2.5, None, 0.4, id="chance hit on a thin slice"),
        pytest.param([3], 10, None, 0.8, id="one thick slice"),
        pytest.param([3], 2.5, [3], 0.8, id="the only slice that was asked"),
        pytest.param([3, 4], 2.5, [3, 4], 0.8, id="both slices that were asked"),
    ],
)
def test_score(slices, spacing_mm, asked, expected):
    stack = a_stack(spacing_mm)
    boxes = [a_box(stack, k, LIVER, 0.8) for k in slices]
    (finding,) = link_findings("liver", boxes, stack, asked)
    assert finding.score == pytest.approx(expected)


def test_the_best_finding_comes_first():
    stack = a_stack()
    boxes = [a_box(stack, k, SPLEEN, 0.6) for k in range(5)]
    boxes += [a_box(stack, k, LIVER, 0.9) for k in range(5)]
    scores = [finding.score for finding in link_findings("it", boxes, stack)]
    assert scores == pytest.approx([0.9, 0.6])


def test_a_picture_has_findings_of_one_slice():
    stack = slice_stack(
        VolumeGeometry((100, 80, 1), tuple(map(tuple, np.diag([-1.0, -1, 1, 1]).tolist()))), "axial"
    )
    (finding,) = link_findings("polyp", [a_box(stack, 0, (10, 20, 40, 60), 0.7)], stack)
    assert finding.score == pytest.approx(0.7)
    assert finding.roi.size_mm == pytest.approx((30, 40, 1))
