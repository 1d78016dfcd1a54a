"""Contract: what may be asked, and that answers are plain JSON."""

from __future__ import annotations

import json
import math

import pytest

from bird_vlm.contract import (
    MAX_LABELS,
    GroundingRequest,
    GroundingResult,
    ReferringRequest,
    SliceBox,
    to_json,
)
from bird_vlm.errors import BadRequestError, BirdError
from bird_vlm.linking import link_findings
from bird_vlm.slices import slice_stack


def test_labels_are_tidied_and_asked_once():
    request = GroundingRequest(labels=("  right   kidney ", "liver", "right kidney"))
    assert request.labels == ("right kidney", "liver")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param({"labels": ()}, "labels: give 1 to 64", id="no label"),
        pytest.param({"labels": tuple(map(str, range(MAX_LABELS + 1)))}, "got 65", id="too many"),
        pytest.param({"labels": "liver"}, "needs a list", id="one text"),
        pytest.param({"labels": ("",)}, "labels: each needs", id="empty label"),
        pytest.param({"labels": ("x" * 101,)}, "labels: each needs", id="long label"),
        pytest.param({"labels": ("<ref>liver",)}, "refused", id="marks in a label"),
        pytest.param({"labels": ("<|im_end|>",)}, "refused", id="special token"),
        pytest.param({"labels": ("liver\x07",)}, "control characters", id="control character"),
        pytest.param({"plane": "oblique"}, "axial, coronal, sagittal", id="plane"),
        pytest.param({"slices": (5, 5)}, "0 <= A < B, got 5:5", id="empty range"),
        pytest.param({"slices": (-1, 5)}, "got -1:5", id="negative slice"),
        pytest.param({"slices": (1, 2, 3)}, "got 1:2:3", id="three slices"),
        pytest.param({"window": (40, 0)}, "positive width", id="no width"),
        pytest.param({"window": (40, math.nan)}, "positive width", id="NaN width"),
        pytest.param({"window": (40,)}, "level and a positive", id="half a window"),
        pytest.param({"threshold": 1.5}, "0..1, got 1.5", id="threshold"),
        pytest.param({"threshold": math.nan}, "0..1, got nan", id="NaN threshold"),
        pytest.param({"near": -2}, "near", id="negative near"),
    ],
)
def test_a_bad_grounding_request_names_the_argument_and_the_value(arguments, says):
    with pytest.raises(BadRequestError) as refused:
        GroundingRequest(**{"labels": ("liver",), **arguments})
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param({"box_ras": (0, 0, 0, 1, 1)}, "6 finite numbers", id="five numbers"),
        pytest.param({"box_ras": (0, 0, 0, 1, 1, math.inf)}, "6 finite numbers", id="infinite"),
        pytest.param({"task": "vg"}, "roc, rc, got 'vg'", id="task"),
        pytest.param({"plane": ""}, "plane", id="plane"),
        pytest.param({"window": (0, -1)}, "window", id="window"),
    ],
)
def test_a_bad_referring_request_names_the_argument_and_the_value(arguments, says):
    with pytest.raises(BadRequestError) as refused:
        ReferringRequest(**{"box_ras": (0, 0, 0, 1, 1, 1), **arguments})
    assert says in str(refused.value)


def test_a_user_error_is_one_family():
    with pytest.raises(BirdError):
        GroundingRequest(labels=())


def test_a_result_is_the_json_that_the_architecture_promises(a_phantom_volume):
    stack = slice_stack(a_phantom_volume.volume.geometry(), "axial")
    box = SliceBox(3, 0.5, (1, 2, 3, 4), stack.corners_ras(3, (1, 2, 3, 4)))
    result = GroundingResult(
        volume=a_phantom_volume.volume.geometry(),
        model="bird-mini",
        plane="axial",
        window=(40, 400),
        findings=link_findings("block", [box], stack),
        absent=("liver",),
    )
    data = json.loads(json.dumps(to_json(result), allow_nan=False))
    promised = {"volume", "model", "plane", "window", "findings", "absent", "timing_s"}
    assert promised <= set(data)
    assert data["volume"]["shape_ijk"] == [20, 18, 12]
    assert [len(row) for row in data["volume"]["ijk_to_ras"]] == [4, 4, 4, 4]
    (finding,) = data["findings"]
    assert set(finding) == {"label", "score", "slices", "roi", "boxes"}
    assert finding["slices"] == [3, 3]
    assert set(finding["roi"]) == {"center_ras", "size_mm", "axes_ras"}
    (slice_box,) = finding["boxes"]
    assert set(slice_box) == {"slice", "score", "box_pixel", "corners_ras", "asked"}
    assert [len(corner) for corner in slice_box["corners_ras"]] == [3, 3, 3, 3]
