"""Boxes: pixel <-> norm, masks and overlaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.boxes import (
    NORM_MAX,
    iou,
    mask_to_box_pixel,
    norm_to_pixel,
    overlap_share,
    pixel_to_norm,
)
from geometries import norm_boxes, pixel_boxes

sizes = st.integers(1, 3000)


@given(norm_boxes(), sizes, sizes)
def test_norm_boxes_survive_pixels(box_norm, width, height):
    assert pixel_to_norm(norm_to_pixel(box_norm, width, height), width, height) == box_norm


@given(sizes, sizes, st.data())
def test_pixel_boxes_survive_norm_within_one_unit(width, height, data):
    box_pixel = data.draw(pixel_boxes(width, height))
    back = norm_to_pixel(pixel_to_norm(box_pixel, width, height), width, height)
    unit = np.array([width, height, width, height]) / NORM_MAX
    assert (np.abs(np.subtract(back, box_pixel)) <= unit + 1e-9).all()


@given(st.tuples(*[st.floats(-5000, 5000)] * 4), sizes, sizes)
def test_any_box_becomes_a_legal_norm_box(box_pixel, width, height):
    x0, y0, x1, y1 = pixel_to_norm(box_pixel, width, height)
    assert 0 <= x0 < x1 <= NORM_MAX
    assert 0 <= y0 < y1 <= NORM_MAX


@pytest.mark.parametrize(
    ("box_pixel", "box_norm"),
    [
        pytest.param((0, 0, 1, 1), (0, 0, 100, 50), id="first pixel"),
        pytest.param((9, 19, 10, 20), (900, 950, 1000, 1000), id="last pixel"),
        pytest.param((0, 0, 10, 20), (0, 0, 1000, 1000), id="full picture"),
        pytest.param((-3, -3, 40, 40), (0, 0, 1000, 1000), id="sticks out"),
        pytest.param((4, 4, 4, 4), (400, 200, 401, 201), id="empty grows to one unit"),
        pytest.param((10, 20, 10, 20), (999, 999, 1000, 1000), id="empty in the last corner"),
    ],
)
def test_pixel_to_norm_on_a_picture_of_10_by_20(box_pixel, box_norm):
    assert pixel_to_norm(box_pixel, width=10, height=20) == box_norm


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_the_box_of_a_filled_box_is_that_box(width, height, data):
    box_pixel = data.draw(pixel_boxes(width, height))
    x0, y0, x1, y1 = map(int, box_pixel)
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    assert mask_to_box_pixel(mask) == box_pixel


def test_an_empty_mask_has_no_box():
    assert mask_to_box_pixel(np.zeros((4, 5))) is None


@pytest.mark.parametrize(
    ("box", "other", "expected_iou", "expected_share"),
    [
        pytest.param((0, 0, 4, 4), (0, 0, 4, 4), 1.0, 1.0, id="same"),
        pytest.param((0, 0, 4, 4), (4, 0, 8, 4), 0.0, 0.0, id="touching"),
        pytest.param((0, 0, 4, 4), (6, 6, 8, 8), 0.0, 0.0, id="apart in both"),
        pytest.param((0, 0, 4, 4), (2, 0, 6, 4), 1 / 3, 0.5, id="half over"),
        pytest.param((0, 0, 4, 4), (1, 1, 3, 3), 0.25, 1.0, id="inside"),
        pytest.param((1, 1, 1, 1), (1, 1, 1, 1), 0.0, 0.0, id="both empty"),
    ],
)
def test_overlaps(box, other, expected_iou, expected_share):
    assert iou(box, other) == iou(other, box) == pytest.approx(expected_iou)
    assert overlap_share(box, other) == overlap_share(other, box) == pytest.approx(expected_share)
