"""Training pictures: the same as at inference, left and right true, boxes on their objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Compose, RandAffined
from PIL import Image

from bird_training.records import ObjectRecord, PictureRecord
from bird_training.transforms.pictures import (
    LoadPicture,
    RandMirrord,
    RandWindowd,
    ToFloat,
    augmentation,
)
from bird_vlm.boxes import iou, mask_to_box_pixel
from bird_vlm.errors import BirdError
from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.labels import mirrored_name
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import read_volume
from bird_vlm.windows import slice_picture
from small_world import a_record

SIZE = 96
ONE_SIDED = ("left hippocampus", "brain stem")


def a_picture_of(path, mode: str = "L", size: tuple[int, int] = (150, 110)) -> PictureRecord:
    """Structured noise, saved in a mode of the kind that the suffix can hold."""
    rng = np.random.default_rng(0)
    colour = mode not in ("L", "LA", "1", "I;16")
    values = rng.integers(0, 256, (size[1] // 5, size[0] // 5, 3 if colour else 1), dtype=np.uint8)
    values = values.repeat(5, 0).repeat(5, 1)
    picture = Image.fromarray(values if colour else values[..., 0])
    if mode == "I;16":
        picture = Image.fromarray(values[..., 0].astype(np.uint16) * 16)
    picture.convert(mode).save(path) if mode != "I;16" else picture.save(path)
    return a_record(image=path)


def as_the_product_sees(path, size: int) -> torch.Tensor:
    volume = read_volume(path)
    picture = slice_picture(volume, slice_stack(volume.geometry(), "axial"), 0)
    processor = BirdImageProcessor(size={"height": size, "width": size})
    pixels = processor([picture], return_tensors="pt")["pixel_values"][0]
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    return pixels * std + mean


@pytest.mark.parametrize("size", [64, 256], ids=["smaller", "larger"])
@pytest.mark.parametrize(
    ("name", "mode", "channels"),
    [
        pytest.param("a.png", "L", 1, id="grey-png"),
        pytest.param("a.jpg", "L", 1, id="grey-jpeg"),
        pytest.param("a.jpg", "RGB", 3, id="colour-jpeg"),
        pytest.param("a.png", "RGBA", 3, id="png-with-alpha"),
        pytest.param("a.png", "P", 3, id="palette"),
        pytest.param("a.png", "LA", 1, id="grey-with-alpha"),
        pytest.param("a.png", "1", 1, id="one-bit"),
        pytest.param("a.png", "I;16", 1, id="sixteen-bits"),
    ],
)
def test_a_loaded_picture_is_what_the_product_shows_the_model(tmp_path, name, mode, channels, size):
    record = a_picture_of(tmp_path / name, mode)
    image = LoadPicture(size)(record)["image"]
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (channels, size, size))
    shown = as_the_product_sees(tmp_path / name, size)
    assert torch.allclose(image.float().expand(3, -1, -1) / 255, shown, atol=1.01 / 255)
    assert shown.std() > 0.1  # a picture, not a grey area


def test_masks_are_squeezed_with_their_picture(tmp_path):
    mask = np.zeros((110, 150), np.uint8)
    mask[22:44, 75:150] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    record = replace(
        a_picture_of(tmp_path / "a.png"), objects=(ObjectRecord("liver", tmp_path / "mask.png"),)
    )
    sample = LoadPicture(100)(record)
    assert sample["instances"].shape == (1, 100, 100)
    assert mask_to_box_pixel(sample["instances"][0].numpy()) == (50, 20, 100, 40)
    assert set(sample["instances"].unique().tolist()) == {0, 1}


def test_objects_of_one_label_map_are_told_apart_and_vanished_ones_dropped(tmp_path):
    values = np.zeros((110, 150), np.uint8)
    values[10:50, 10:50], values[60:100, 60:140], values[105, 145] = 3, 7, 9
    path = tmp_path / "labels.png"
    Image.fromarray(values).save(path)
    names = {3: "left hippocampus", 7: "right hippocampus", 9: "brain stem", 11: "pons"}
    objects = tuple(ObjectRecord(name, path, value) for value, name in names.items())
    sample = LoadPicture(50)(replace(a_picture_of(tmp_path / "a.png"), objects=objects))
    assert sample["labels"] == ["left hippocampus", "right hippocampus"]
    assert sample["instances"].sum((1, 2)).tolist() == [
        pytest.approx(40 * 40 / 6.6, rel=0.15),
        pytest.approx(40 * 80 / 6.6, rel=0.15),
    ]


def test_a_picture_with_nothing_on_it_has_no_instances(tmp_path):
    sample = LoadPicture(50)(a_picture_of(tmp_path / "a.png"))
    assert sample["instances"].shape == (0, 50, 50)
    assert augmentation(50)(sample)["instances"].shape == (0, 50, 50)


@pytest.mark.parametrize("content", [None, b"", b"no picture"], ids=["missing", "empty", "text"])
def test_a_broken_picture_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BirdError, match=r"broken\.png"):
        LoadPicture(50)(a_record(image=path))


@pytest.mark.parametrize("content", [None, b"no picture"], ids=["missing", "text"])
def test_a_broken_mask_is_refused_with_its_name(tmp_path, content):
    mask = tmp_path / "mask.png"
    if content is not None:
        mask.write_bytes(content)
    record = a_picture_of(tmp_path / "a.png")
    with pytest.raises(BirdError, match=r"mask\.png"):
        LoadPicture(50)(replace(record, objects=(ObjectRecord("liver", mask),)))


def a_sample(dataset: str, plane: str = "", channels: int = 1, size: int = SIZE) -> dict:
    """Two bright objects on grey: one high on the left, one lower on the right."""
    instances = torch.zeros(2, size, size)
    instances[0, size // 4 : size // 2, size // 4 : size * 2 // 5] = 1
    instances[1, size * 3 // 5 : size * 7 // 10, size * 11 // 20 : size * 4 // 5] = 1
    image = 0.3 + 0.6 * instances.amax(0, keepdim=True)
    return {
        "image": image.repeat(channels, 1, 1),
        "instances": instances,
        "labels": list(ONE_SIDED),
        "record": a_record(*ONE_SIDED, dataset=dataset, plane=plane),
    }


def mirrored(sample: dict, seed: int = 0) -> dict:
    mirror = RandMirrord(keys=["image", "instances"], prob=1.0)
    mirror.set_random_state(seed)
    return mirror(sample)


@pytest.mark.parametrize("plane", ["", "axial", "coronal"])
def test_a_mirrored_brain_swaps_its_words(plane):
    sample = a_sample("OASIS", plane)
    result = mirrored(sample)
    assert result["labels"] == ["right hippocampus", "brain stem"]
    for key in ("image", "instances"):
        assert torch.equal(result[key], sample[key].flip(-1))
    assert sample["labels"] == list(ONE_SIDED)  # the cached sample stays as it was


@pytest.mark.parametrize(
    ("dataset", "plane"),
    [
        pytest.param("BTCV", "", id="abdomen"),
        pytest.param("COVID-CXR", "", id="chest-x-ray"),
        pytest.param("ACDC", "", id="heart"),
        pytest.param("FH-PS-AOP", "", id="pelvis"),
        pytest.param("Unheard", "", id="unknown"),
        pytest.param("OASIS", "sagittal", id="sagittal-brain"),
    ],
)
def test_what_has_a_right_and_a_wrong_way_round_is_never_mirrored(dataset, plane):
    sample = a_sample(dataset, plane)
    for seed in range(8):
        result = mirrored(sample, seed)
        assert result["labels"] == sample["labels"]
        assert torch.equal(result["image"], sample["image"])
        assert torch.equal(result["instances"], sample["instances"])


@pytest.mark.parametrize("dataset", ["ISIC2018", "CVC-ClinicDB"], ids=["skin", "bowel"])
def test_a_picture_without_direction_comes_in_all_quarter_turns(dataset):
    sample = a_sample(dataset, channels=3)
    drawn = set()
    for seed in range(40):
        result = mirrored(sample, seed)
        [turns] = [
            n
            for n in range(4)
            if torch.equal(result["image"], sample["image"].flip(-1).rot90(n, (-2, -1)))
        ]
        expected = sample["instances"].flip(-1).rot90(turns, (-2, -1))
        assert torch.equal(result["instances"], expected)
        drawn.add(turns)
    assert drawn == {0, 1, 2, 3}


@given(st.sampled_from(["left kidney", "right rib 7", "liver", "left lobe of the right lung"]))
def test_mirroring_a_name_twice_gives_it_back(name):
    assert mirrored_name(mirrored_name(name)) == name
    assert ("left" in name or "right" in name) == (mirrored_name(name) != name)


def a_geometry() -> Compose:
    """The mirror and the affine part of the training's own chain, grey values untouched."""
    parts = [t for t in augmentation(SIZE).transforms if isinstance(t, RandMirrord | RandAffined)]
    assert len(parts) == 2
    return Compose(parts)


@pytest.mark.parametrize(
    "dataset", ["OASIS", "BTCV", "ISIC2018"], ids=["mirrored", "kept", "flipped"]
)
def test_masks_stay_on_their_objects(dataset):
    moved = 0
    for seed in range(12):
        sample, geometry = a_sample(dataset), a_geometry()
        geometry.set_random_state(seed)
        result = geometry(sample)
        bright = result["image"][0].numpy() > 0.6
        mask = result["instances"].amax(0).numpy() > 0
        assert (bright & mask).sum() > 0.9 * (bright | mask).sum()
        assert iou(mask_to_box_pixel(bright), mask_to_box_pixel(mask)) > 0.9
        moved += not torch.equal(result["instances"].as_tensor(), sample["instances"])
    assert moved >= 6


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_the_whole_chain_keeps_shapes_and_finite_values(channels):
    augment = augmentation(SIZE)
    sample = a_sample("OASIS", channels=channels)
    cached = {
        **sample,
        "image": (sample["image"] * 255).to(torch.uint8),
        "instances": sample["instances"].to(torch.uint8),
    }
    pictures = []
    for seed in range(20):
        augment.set_random_state(seed)
        result = augment(cached)
        assert result["image"].shape == (channels, SIZE, SIZE)
        assert torch.isfinite(result["image"]).all()
        assert set(result["instances"].unique().tolist()) <= {0.0, 1.0}
        assert len(result["labels"]) == len(result["instances"]) == 2
        pictures.append(result["image"].as_tensor())
    assert len({float(picture.sum()) for picture in pictures}) == 20


@pytest.mark.parametrize("value", [0, 255], ids=["black", "white"])
def test_a_picture_of_one_grey_stays_finite(value):
    augment = augmentation(SIZE)
    cached = {
        "image": torch.full((1, SIZE, SIZE), value, dtype=torch.uint8),
        "instances": torch.zeros(0, SIZE, SIZE, dtype=torch.uint8),
        "labels": [],
        "record": a_record(dataset="OASIS"),
    }
    for seed in range(20):
        augment.set_random_state(seed)
        assert torch.isfinite(augment(cached)["image"]).all()


def test_the_same_seed_draws_the_same_picture():
    cached = ToFloat()(a_sample("OASIS"))
    augment = augmentation(SIZE)
    results = []
    for seed in (5, 5, 6):
        augment.set_random_state(seed)
        results.append(augment(cached)["image"].as_tensor())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def window(image: torch.Tensor) -> torch.Tensor:
    stretch = RandWindowd(keys=["image"], prob=1.0)
    stretch.set_random_state(3)
    return stretch({"image": image})["image"]


def test_another_window_keeps_the_order_of_greys():
    grey = torch.linspace(0, 1, SIZE * SIZE).reshape(1, SIZE, SIZE)
    result = window(grey)
    assert not torch.allclose(result, grey, atol=0.02)
    assert (result.flatten().diff() >= 0).all()
    assert 0 <= result.min() < result.max() <= 1


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(torch.rand(3, SIZE, SIZE), id="colour"),
        pytest.param(torch.zeros(1, SIZE, SIZE), id="black"),
    ],
)
def test_colour_and_empty_pictures_keep_their_values(image):
    assert torch.equal(window(image), image)
