"""Editing a finding: boxes, corners and ROI fit each other, or the edit is refused."""

from __future__ import annotations

import pytest

from bird_server.review.records import Edit
from bird_vlm.contract import Roi
from bird_vlm.errors import BadRequestError
from bird_vlm.slices import slice_stack
from review_cases import GEOMETRY, a_finding, by

UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
BOX = (1.0, 1.0, 5.0, 5.0)


def test_edited_boxes_bring_corners_and_roi_with_them(a_store, a_liver):
    box_pixel = (2.0, 3.0, 12.0, 13.0)

    content = a_store.edit(
        a_liver, by("ann", 1), Edit(boxes=((8, box_pixel), (7, box_pixel)))
    ).content

    stack = slice_stack(GEOMETRY, "axial")
    assert [box.slice for box in content.boxes] == [7, 8]
    assert content.boxes[1].corners_ras == stack.corners_ras(8, box_pixel)
    assert content.roi.size_mm == pytest.approx((15.0, 15.0, 8.0))
    assert content.score == 0.8


def test_an_edited_roi_cuts_its_boxes_anew(a_store, a_liver):
    roi = a_finding(first=4, last=9, box_pixel=(6.0, 6.0, 20.0, 11.0)).roi

    content = a_store.edit(a_liver, by("ann", 1), Edit(roi=roi)).content

    assert content.roi == roi
    assert content.slices == (4, 9)
    for box in content.boxes:
        assert box.box_pixel == pytest.approx((6.0, 6.0, 20.0, 11.0))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        pytest.param(Edit(), "changes nothing", id="nothing"),
        pytest.param(Edit(label="liver"), "changes nothing", id="the same label"),
        pytest.param(Edit(label="a<b"), "labels", id="label with control marks"),
        pytest.param(Edit(boxes=()), "boxes", id="no boxes"),
        pytest.param(Edit(boxes=((3, BOX), (3, BOX))), "one box on each", id="two on a slice"),
        pytest.param(Edit(boxes=((20, BOX),)), r"0\.\.19", id="beyond the last slice"),
        pytest.param(Edit(boxes=((3, (5.0, 1.0, 5.0, 2.0)),)), "x0 < x1", id="no extent"),
        pytest.param(Edit(boxes=((3, (0.0, 0.0, 41.0, 2.0)),)), "<= 40", id="beyond the edge"),
        pytest.param(Edit(boxes=((3, (float("nan"), 0.0, 4.0, 2.0)),)), "x0 < x1", id="NaN"),
        pytest.param(Edit(roi=Roi((0, 0, 0), (1, 0, 1), UPRIGHT)), "positive", id="flat ROI"),
        pytest.param(Edit(roi=Roi((0, 0, 0), (1, 1, 1), (UPRIGHT[0],) * 3)), "rotation", id="skew"),
        pytest.param(Edit(roi=Roi((900, 0, 0), (9, 9, 9), UPRIGHT)), "no slice", id="far away"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(a_store, a_liver, edit, words):
    with pytest.raises(BadRequestError, match=words):
        a_store.edit(a_liver, by("ann", 1), edit)

    assert a_store.finding(a_liver).revision == 1
