"""Questions about whole volumes, asked of the shipped model on the MNI152 brain."""

from __future__ import annotations

import numpy as np
import pytest

from bird_vlm.contract import (
    Finding,
    GroundingRequest,
    GroundingResult,
    Progress,
    ReferringRequest,
)
from bird_vlm.engine import Engine
from bird_vlm.errors import BadRequestError, UnknownLabelError
from bird_vlm.tensor_cache import TensorCache
from bird_vlm.volume import ask, check_labels, grounding_events, refer
from bird_vlm.volumes import Volume

# Centres in MNI space, mm, from common knowledge of the template.
CENTRES_RAS = {
    "left thalamus": (-11, -19, 8),
    "right thalamus": (11, -19, 8),
    "right putamen": (26, 3, 0),
    "left hippocampus": (-26, -22, -15),
    "brain stem": (0, -28, -32),
}


def grounded(engine: Engine, volume: Volume, **request: object) -> GroundingResult:
    *_, result = grounding_events(engine, volume, GroundingRequest(**request))
    return result


def holds(finding: Finding, point_ras: tuple[float, float, float]) -> bool:
    offset = np.array(finding.roi.axes_ras).T @ (
        np.array(point_ras) - np.array(finding.roi.center_ras)
    )
    return bool((np.abs(offset) <= np.array(finding.roi.size_mm) / 2).all())


@pytest.mark.slow
@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_structures_of_the_brain_are_where_they_belong(bird_mini, mni152, plane):
    result = grounded(bird_mini, mni152, labels=tuple(CENTRES_RAS), plane=plane)
    best = {}
    for finding in result.findings:
        best.setdefault(finding.label, finding)
    right = [label for label, finding in best.items() if holds(finding, CENTRES_RAS[label])]
    assert len(right) >= 4, f"found only {right}"


def test_sagittal_slices_keep_to_the_named_side(bird_mini, mni152):
    for label, sign in (("left thalamus", -1), ("right thalamus", 1)):
        result = grounded(bird_mini, mni152, labels=(label,), plane="sagittal", slices=(80, 118))
        centres = [box.corners_ras[0][0] for f in result.findings for box in f.boxes]
        assert centres
        assert all(sign * x >= -1 for x in centres)


def test_events_count_up_to_the_result(bird_mini, mni152):
    request = GroundingRequest(("brain stem", "left lung"), slices=(40, 60), near=50)
    *batches, result = grounding_events(bird_mini, mni152, request)
    assert all(isinstance(batch, Progress) for batch in batches)
    assert [batch.done for batch in batches] == sorted({batch.done for batch in batches})
    assert batches[-1].done == batches[-1].total == 2 * 20
    assert {box.slice for _, box in batches[0].boxes} <= set(range(46, 55))
    assert isinstance(result, GroundingResult)
    assert "left lung" in result.absent
    streamed = {(label, box) for batch in batches for label, box in batch.boxes}
    kept = {(f.label, box) for f in result.findings for box in f.boxes}
    assert kept <= streamed


def test_stopping_early_asks_no_further_slice(bird_mini, mni152, monkeypatch):
    asked = []
    encode = bird_mini.encode
    monkeypatch.setattr(
        bird_mini,
        "encode",
        lambda pictures: asked.append(len(pictures)) or encode(pictures),
    )
    monkeypatch.setattr(bird_mini, "features", TensorCache())
    events = grounding_events(bird_mini, mni152, GroundingRequest(("brain stem",)))
    next(events)
    events.close()
    assert len(asked) == 1


def test_a_second_question_encodes_nothing(bird_mini, mni152, monkeypatch):
    grounded(bird_mini, mni152, labels=("brain stem",), slices=(40, 60))
    monkeypatch.setattr(bird_mini, "encode", lambda pictures: pytest.fail("encoded again"))
    grounded(bird_mini, mni152, labels=("right thalamus",), slices=(45, 60))


def test_another_window_is_another_picture(bird_mini, mni152):
    before = bird_mini.features.use().misses
    for window in (None, (5000.0, 4000.0)):
        grounded(bird_mini, mni152, labels=("brain stem",), slices=(100, 101), window=window)
    assert bird_mini.features.use().misses >= before + 1


def test_coarse_to_fine_asks_a_third(bird_mini, mni152):
    where = {"labels": ("left caudate",), "slices": (50, 131)}
    every = grounded(bird_mini, mni152, **where)
    coarse = grounded(bird_mini, mni152, **where, search="coarse-to-fine")
    assert every.asked == 81
    assert coarse.asked <= 81 / 3
    best, ours = every.findings[0], coarse.findings[0]
    assert abs(best.slices[0] - ours.slices[0]) + abs(best.slices[1] - ours.slices[1]) <= 6
    assert {box.asked for box in ours.boxes} == {True, False}


def test_labels_are_answered_as_they_were_typed(bird_mini, mni152):
    result = grounded(bird_mini, mni152, labels=("thalamus_right", "Left Lung"), slices=(76, 80))
    assert [finding.label for finding in result.findings] == ["thalamus_right"]
    assert result.absent == ("Left Lung",)


def test_a_box_is_named_on_its_middle_slice(bird_mini, mni152):
    answer = refer(bird_mini, mni152, ReferringRequest((2, -30, 0, 22, -6, 16)))
    assert answer.slice == 80
    assert answer.text in bird_mini.card.known_labels


def test_a_picture_is_a_volume_of_one_slice(bird_mini):
    picture = Volume(np.full((64, 48, 1, 3), 90, np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    result = grounded(bird_mini, picture, labels=("polyp",), plane="sagittal", threshold=0.0)
    assert result.plane == "axial"
    assert result.findings[0].slices == (0, 0)
    answer = ask(bird_mini, picture, "What kind of image is this?")
    assert answer.text


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        pytest.param({"labels": ("teapot",)}, "not in this model's training", id="unknown label"),
        pytest.param({"labels": ("liver",), "slices": (180, 999)}, "exceeds the 189", id="range"),
    ],
)
def test_bad_requests_are_refused_before_any_work(bird_mini, mni152, request_, message):
    with pytest.raises(BadRequestError, match=message):
        grounding_events(bird_mini, mni152, GroundingRequest(**request_))


def test_known_labels_may_lack_their_side(bird_mini):
    check_labels(bird_mini.card, ["kidney", "Kidney_Left", "LIVER"])
    with pytest.raises(UnknownLabelError, match="'teapot'"):
        check_labels(bird_mini.card, ["liver", "teapot"])


@pytest.mark.parametrize("question", ["", "   ", "x" * 1001], ids=["empty", "blank", "long"])
def test_bad_questions_are_refused(bird_mini, mni152, question):
    with pytest.raises(BadRequestError, match="question"):
        ask(bird_mini, mni152, question)


def test_a_box_outside_the_volume_is_refused(bird_mini, mni152):
    with pytest.raises(BadRequestError, match="outside"):
        refer(bird_mini, mni152, ReferringRequest((900, 900, 900, 950, 950, 950)))


@pytest.mark.parametrize("window", [(40.0, 0.0), (40.0, -5.0), (float("nan"), 1.0)], ids=str)
def test_bad_windows_of_a_question_are_refused(bird_mini, mni152, window):
    with pytest.raises(BadRequestError, match="window"):
        ask(bird_mini, mni152, "What kind of image is this?", window=window)
