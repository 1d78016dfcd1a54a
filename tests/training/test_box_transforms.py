"""Boxes without masks: they stay on their objects, whole, and the names stay true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import RandAffined
from PIL import Image

from bird_training.facts import PictureFacts, PlacedObject
from bird_training.transforms.boxes import (
    LoadPlacedPicture,
    RandMirrorBoxesd,
    augmented_copy,
    box_augmentation,
    boxes_followed,
    told_facts,
)
from bird_vlm.boxes import iou, mask_to_box_pixel, norm_to_pixel
from bird_vlm.errors import BirdError

SIZE = 160
WIDTH, HEIGHT = 200, 100
BLOCK = (20, 30, 90, 60)  # pixels of the file
BLOCK_NORM = (100, 300, 450, 600)


@pytest.fixture
def a_placed_picture(tmp_path) -> PictureFacts:
    """A bright block on grey; half of its box is its mask."""
    values = np.full((HEIGHT, WIDTH), 60, np.uint8)
    x0, y0, x1, y1 = BLOCK
    values[y0:y1, x0:x1] = 230
    Image.fromarray(values).save(tmp_path / "a.png")
    return PictureFacts(
        id="mr_1",
        image=tmp_path / "a.png",
        modality="mr",
        dataset="OASIS",
        case="p1",
        region="brain",
        plane="axial",
        objects=(PlacedObject("left hippocampus", BLOCK_NORM, area_norm=52_500),),
        absent=("right hippocampus", "edema"),
    )


def bright_box(image: np.ndarray) -> tuple[float, ...]:
    return mask_to_box_pixel(image > (image.min() + 3.0 * image.max()) / 4)


def moved(facts: PictureFacts, seed: int) -> dict:
    augment = box_augmentation(HEIGHT, WIDTH)
    augment.set_random_state(seed)
    return augment(LoadPlacedPicture()(facts))


def test_what_was_not_augmented_is_told_as_it_was(a_placed_picture):
    sample = LoadPlacedPicture()(a_placed_picture)
    assert sample["image"].shape == (1, HEIGHT, WIDTH)
    assert sample["boxes_pixel"].tolist() == [list(BLOCK)]
    assert told_facts(sample) == a_placed_picture


def test_copies_show_their_objects_where_they_say(a_placed_picture, tmp_path):
    places = set()
    for seed in range(30):
        path = tmp_path / f"{seed}.png"
        facts = augmented_copy(a_placed_picture, f"mr_1--augmented_{seed}", path, seed)
        assert (facts.id, facts.image) == (f"mr_1--augmented_{seed}", path)
        assert (facts.case, facts.dataset) == ("p1", "OASIS")
        [placed] = facts.objects
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("L", (WIDTH, HEIGHT))
            shown = bright_box(np.asarray(picture, dtype=float))
        box_pixel = norm_to_pixel(placed.box_norm, WIDTH, HEIGHT)
        assert iou(box_pixel, shown) > 0.85
        x0, y0, x1, y1 = placed.box_norm
        assert placed.area_norm == pytest.approx((x1 - x0) * (y1 - y0) / 2, rel=0.02)
        places.add(placed.box_norm)
    assert len(places) > 15


def test_a_seed_repeats_its_copy(a_placed_picture, tmp_path):
    def copy(name: str, seed: int) -> bytes:
        path = tmp_path / name
        facts = augmented_copy(a_placed_picture, "mr_2", path, seed)
        return path.read_bytes() + repr(facts.objects).encode()

    assert copy("one.png", 1) == copy("again.png", 1) != copy("other.png", 2)


def test_mirrored_pictures_have_mirrored_names(a_placed_picture):
    sides = set()
    for seed in range(20):
        facts = told_facts(moved(a_placed_picture, seed))
        [placed] = facts.objects
        x0, _, x1, _ = placed.box_norm
        side, other = ("left", "right") if x0 + x1 < 1000 else ("right", "left")
        assert placed.label == f"{side} hippocampus"
        assert facts.absent == (f"{other} hippocampus", "edema")
        sides.add(side)
    assert sides == {"left", "right"}


@pytest.mark.parametrize(
    ("dataset", "plane"),
    [
        pytest.param("BTCV", "", id="abdomen"),
        pytest.param("COVID-CXR", "", id="chest-x-ray"),
        pytest.param("Ours", "", id="unknown"),
        pytest.param("OASIS", "sagittal", id="sagittal-brain"),
    ],
)
def test_what_has_a_right_and_a_wrong_way_round_is_never_mirrored(a_placed_picture, dataset, plane):
    facts = replace(a_placed_picture, dataset=dataset, plane=plane)
    sample = LoadPlacedPicture()(facts)
    result = RandMirrorBoxesd(prob=1.0)(sample)
    assert told_facts(result) == facts
    assert torch.equal(result["image"], sample["image"])


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param([], id="none"),
        pytest.param([(0, 0, 1000, 1000)], id="the-whole-picture"),
        pytest.param([(0, 0, 10, 10), (990, 990, 1000, 1000)], id="corners"),
    ],
)
def test_no_box_is_lost_or_cut(a_placed_picture, boxes):
    objects = tuple(PlacedObject("edema", box) for box in boxes)
    for seed in range(20):
        sample = moved(replace(a_placed_picture, objects=objects), seed)
        after = sample["boxes_pixel"]
        assert ((after >= 0) & (after <= torch.tensor([WIDTH, HEIGHT] * 2))).all()
        assert (after[:, 2:] > after[:, :2]).all()
        told = told_facts(sample).objects
        assert len(told) == len(boxes)
        assert all(placed.area_norm is None for placed in told)


def test_colour_stays_colour(a_placed_picture, tmp_path):
    path = tmp_path / "colour.png"
    Image.new("RGB", (40, 30), (200, 80, 20)).save(path)
    facts = replace(a_placed_picture, image=path, objects=(), dataset="ISIC2018")
    copy = augmented_copy(facts, "dermoscopy_1", tmp_path / "copy.png", 3)
    with Image.open(copy.image) as picture:
        assert (picture.mode, picture.size) == ("RGB", (40, 30))
        assert len({high for _, high in picture.getextrema()}) == 3


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


def test_a_broken_picture_is_named(a_placed_picture):
    with pytest.raises(BirdError, match=r"missing\.png"):
        LoadPlacedPicture()(replace(a_placed_picture, image=Path("missing.png")))
