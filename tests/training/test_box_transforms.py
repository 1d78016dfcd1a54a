"""Boxes without masks: they stay on their objects, whole, and the words stay true."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import RandAffined
from PIL import Image

from bird_training.transforms.boxes import (
    LoadBoxedPicture,
    RandMirrorBoxesd,
    TellBoxes,
    box_augmentation,
    boxes_followed,
    mirrored_text,
    with_boxes,
    written_boxes,
)
from bird_training.transforms.pictures import LoadPicture
from bird_vlm.boxes import iou, mask_to_box_pixel
from bird_vlm.errors import BirdError, GrammarError
from small_world import a_record

SIZE = 160
WIDTH, HEIGHT = 200, 100
BLOCK = (20, 30, 90, 60)  # pixels of the file
BOX = "<box>(100,300),(450,600)</box>"
TEXTS = ["Where is the left hippocampus?", f"<ref>left hippocampus</ref>{BOX}", "On the left?"]


@pytest.fixture
def a_told_picture(tmp_path) -> dict:
    """A bright block on grey and texts that tell its box."""
    values = np.full((HEIGHT, WIDTH), 60, np.uint8)
    x0, y0, x1, y1 = BLOCK
    values[y0:y1, x0:x1] = 230
    Image.fromarray(values).save(tmp_path / "a.png")
    return {"image": tmp_path / "a.png", "texts": TEXTS, "dataset": "OASIS"}


def bright_box(image: torch.Tensor) -> tuple[float, ...]:
    grey = image[0].numpy()
    return mask_to_box_pixel(grey > (grey.min() + 3 * grey.max()) / 4)


def test_a_told_picture_is_read_as_one_with_masks(a_told_picture):
    sample = LoadBoxedPicture(SIZE)(a_told_picture)
    assert torch.equal(
        sample["image"], LoadPicture(SIZE)(a_record(image=a_told_picture["image"]))["image"]
    )
    assert sample["boxes_pixel"].tolist() == [[16, 48, 72, 96]]
    assert TellBoxes()(sample)["texts"] == TEXTS


def moved(told: dict, seed: int, size: int = SIZE) -> dict:
    augment = box_augmentation(size)
    augment.set_random_state(seed)
    return augment(LoadBoxedPicture(size)(told))


def test_boxes_stay_on_their_objects(a_told_picture):
    texts = set()
    for seed in range(30):
        sample = moved(a_told_picture, seed)
        [box] = sample["boxes_pixel"].tolist()
        assert iou(tuple(box), bright_box(sample["image"])) > 0.85
        [told] = written_boxes(sample["texts"])
        assert iou(tuple(v * SIZE / 1000 for v in told), tuple(box)) > 0.98
        texts.add(tuple(sample["texts"]))
    assert len(texts) > 15


def test_mirrored_pictures_have_mirrored_words(a_told_picture):
    sides = set()
    for seed in range(20):
        sample = moved(a_told_picture, seed)
        [box] = sample["boxes_pixel"].tolist()
        side = "left" if (box[0] + box[2]) / 2 < SIZE / 2 else "right"
        assert sample["texts"][0] == f"Where is the {side} hippocampus?"
        assert sample["texts"][1].startswith(f"<ref>{side} hippocampus</ref><box>")
        assert sample["texts"][2] == f"On the {side}?"
        sides.add(side)
    assert sides == {"left", "right"}


@pytest.mark.parametrize(
    ("dataset", "plane"),
    [
        pytest.param("BTCV", "", id="abdomen"),
        pytest.param("COVID-CXR", "", id="chest-x-ray"),
        pytest.param("", "", id="unknown"),
        pytest.param("OASIS", "sagittal", id="sagittal-brain"),
    ],
)
def test_what_has_a_right_and_a_wrong_way_round_is_never_mirrored(a_told_picture, dataset, plane):
    sample = LoadBoxedPicture(SIZE)(a_told_picture | {"dataset": dataset, "plane": plane})
    mirror = RandMirrorBoxesd(prob=1.0)
    result = mirror(sample)
    assert result["texts"] == TEXTS
    assert torch.equal(result["image"], sample["image"])
    assert torch.equal(result["boxes_pixel"], sample["boxes_pixel"])


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param("", id="none"),
        pytest.param("<box>(0,0),(1000,1000)</box>", id="the-whole-picture"),
        pytest.param("<box>(0,0),(1,1)</box><box>(999,999),(1000,1000)</box>", id="corners"),
    ],
)
def test_no_box_is_lost_or_cut(a_told_picture, boxes):
    before = written_boxes([boxes])
    for seed in range(20):
        sample = moved(a_told_picture | {"texts": [boxes]}, seed)
        after = sample["boxes_pixel"]
        assert len(after) == len(before)
        assert ((after >= 0) & (after <= SIZE)).all()
        assert (after[:, 2:] > after[:, :2]).all()
        assert len(written_boxes(sample["texts"])) == len(before)


def test_the_recorded_matrix_places_edges_within_a_fifth_of_a_pixel():
    image = torch.zeros(1, SIZE, SIZE)
    image[0, 50:90, 40:120] = 1
    affine = RandAffined(
        keys=["image"], prob=1.0, scale_range=[(-0.25, 0.2)] * 2, translate_range=[9, 9]
    )
    for seed in range(10):
        affine.set_random_state(seed)
        after = affine({"image": MetaTensor(image)})["image"]
        boxes = boxes_followed(torch.tensor([[40.0, 50, 120, 90]]), MetaTensor(image), after)
        rows, columns = after[0].numpy().max(1), after[0].numpy().max(0)
        found = [*half_height(columns), *half_height(rows)]
        x0, y0, x1, y1 = boxes[0].tolist()
        assert found == pytest.approx([x0, x1, y0, y1], abs=0.2)


def half_height(profile: np.ndarray) -> tuple[float, float]:
    """Where a profile crosses 0.5 up and down; pixel centres lie at 0.5, 1.5, ..."""
    inside = np.flatnonzero(profile > 0.5)
    first, last = inside[0], inside[-1]
    up = first + 0.5 - (profile[first] - 0.5) / (profile[first] - profile[first - 1])
    down = last + 0.5 + (profile[last] - 0.5) / (profile[last] - profile[last + 1])
    return float(up), float(down)


def test_boxes_refuse_to_follow_a_turned_picture():
    turn = RandAffined(keys=["image"], prob=1.0, rotate_range=0.2)
    turn.set_random_state(0)
    image = MetaTensor(torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="turned"):
        boxes_followed(torch.zeros(1, 4), image, turn({"image": image})["image"])


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("The LEFT kidney; Right-sided mass", "The RIGHT kidney; Left-sided mass"),
        ("bright, upright, cleft and leftover", "bright, upright, cleft and leftover"),
        ("upper-left, rightmost, leftward", "upper-right, leftmost, rightward"),
    ],
    ids=["capitals", "other-words", "compounds"],
)
def test_words_change_sides(text, mirrored):
    assert mirrored_text(text) == mirrored
    assert mirrored_text(mirrored) == text


_BOXES = st.tuples(*[st.integers(0, 499)] * 2, *[st.integers(500, 1000)] * 2)


@given(st.lists(st.lists(_BOXES, max_size=3), max_size=4))
def test_boxes_written_into_texts_are_read_again(turns):
    texts = ["a " + BOX * len(boxes) + " b" for boxes in turns]
    flat = [box for boxes in turns for box in boxes]
    assert written_boxes(with_boxes(texts, flat)) == flat


@pytest.mark.parametrize("count", [0, 2], ids=["too-few", "too-many"])
def test_boxes_that_do_not_fit_the_places_are_refused(count):
    with pytest.raises(ValueError, match=f"boxes_norm: the texts have 1 places, got {count}"):
        with_boxes([BOX], [(0, 0, 1, 1)] * count)


def test_malformed_boxes_and_broken_pictures_are_refused(a_told_picture, tmp_path):
    with pytest.raises(GrammarError, match="malformed"):
        LoadBoxedPicture(SIZE)(a_told_picture | {"texts": ["<box>(1,2)</box>"]})
    with pytest.raises(BirdError, match=r"missing\.png"):
        LoadBoxedPicture(SIZE)(a_told_picture | {"image": tmp_path / "missing.png"})
