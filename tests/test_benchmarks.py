"""The benchmark's arithmetic on a finding whose box is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from bird_vlm.contract import SliceBox
from bird_vlm.linking import link_findings
from bird_vlm.slices import slice_stack

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "volume_iou.py"


@pytest.fixture(scope="module")
def volume_iou():
    spec = importlib.util.spec_from_file_location("volume_iou", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["volume_iou"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["a_phantom_volume", "an_oblique_volume", "a_left_handed_volume"])
def test_a_finding_around_the_block_has_an_iou_of_one(volume_iou, request, kind):
    phantom = request.getfixturevalue(kind)
    stack = slice_stack(phantom.volume.geometry(), "axial")
    boxes = []
    for index in range(stack.count):
        inside = np.argwhere(stack.cut(phantom.mask, index))
        if len(inside):
            (y0, x0), (y1, x1) = inside.min(0), inside.max(0) + 1
            box_pixel = tuple(map(float, (x0, y0, x1, y1)))
            boxes.append(SliceBox(index, 0.9, box_pixel, stack.corners_ras(index, box_pixel)))
    [finding] = link_findings("the block", boxes, stack)
    found = volume_iou.finding_box_ijk(finding, phantom.volume.ijk_to_ras)
    assert volume_iou.box_iou(found, volume_iou.label_box_ijk(phantom.mask)) == pytest.approx(1)


def test_half_overlapping_boxes(volume_iou):
    first = (np.zeros(3), np.array([2.0, 1.0, 1.0]))
    second = (np.array([1.0, 0.0, 0.0]), np.array([3.0, 1.0, 1.0]))
    assert volume_iou.box_iou(first, second) == pytest.approx(1 / 3)
