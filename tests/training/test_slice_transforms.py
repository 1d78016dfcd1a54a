"""Training and inference see the same pictures of the same slices."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose

from bird_training.transforms.pictures import augmentation, squeezed
from bird_training.transforms.slices import (
    PRESETS,
    CutSlice,
    LoadVolumed,
    RandWindowPresetd,
    WindowPresetd,
)
from bird_vlm.boxes import mask_to_box_pixel
from bird_vlm.contract import PLANES, GroundingRequest
from bird_vlm.engine import ModelCard, PictureAnswer
from bird_vlm.errors import BadRequestError, BadVolumeError, BirdError
from bird_vlm.slices import slice_stack
from bird_vlm.volume import grounding_events
from bird_vlm.windows import automatic_window, to_uint8
from small_world import a_record

SIZE = 48
VOLUMES = ["a_phantom_volume", "an_oblique_volume", "a_left_handed_volume"]


class WatchingEngine:
    """A model that finds nothing and keeps every picture it is shown."""

    card = ModelCard("watching")

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []

    def encode(self, pictures) -> torch.Tensor:
        self.pictures += pictures
        return torch.zeros(len(pictures), 1, 1)

    def ground(self, features, labels, threshold) -> list[list[PictureAnswer]]:
        return [[PictureAnswer(0.0, "") for _ in labels] for _ in features]


def shown_at_inference(volume, plane, window) -> list[np.ndarray]:
    engine = WatchingEngine()
    for _ in grounding_events(engine, volume, GroundingRequest(("x",), plane, window=window)):
        pass
    return engine.pictures


@pytest.fixture
def a_labelled_scan(tmp_path, request):
    """Files of a phantom and of a label map with its block as value 3."""

    def save(kind: str) -> SimpleNamespace:
        phantom = request.getfixturevalue(kind)
        labels = nibabel.Nifti1Image(phantom.mask.astype(np.uint8) * 3, phantom.volume.ijk_to_ras)
        nibabel.save(labels, tmp_path / "labels.nii.gz")
        files = {
            "volume": phantom.save(tmp_path / "scan.nii.gz"),
            "label_map": tmp_path / "labels.nii.gz",
        }
        return SimpleNamespace(files=files, phantom=phantom)

    return save


@pytest.mark.parametrize("preset", [None, "lung"], ids=["automatic", "lung"])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("kind", VOLUMES)
def test_training_sees_what_inference_shows(a_labelled_scan, kind, plane, preset):
    scan = a_labelled_scan(kind)
    to_slice = Compose(
        [LoadVolumed(["volume", "label_map"]), WindowPresetd(preset), CutSlice(SIZE, {3: "liver"})]
    )
    window = PRESETS[preset] if preset else None
    shown = shown_at_inference(scan.phantom.volume, plane, window)
    assert len(shown) > 10
    stack = slice_stack(scan.phantom.volume.geometry(), plane)
    for index, picture in enumerate(shown):
        sample = to_slice(
            {**scan.files, "plane": plane, "index": index, "record": a_record(plane=plane)}
        )
        assert torch.equal(sample["image"], squeezed(picture, SIZE))
        mask = stack.cut(scan.phantom.mask, index)
        assert sample["labels"] == (["liver"] if mask.any() else [])
        if mask.any():
            scale = np.tile([SIZE / stack.width, SIZE / stack.height], 2)
            box_pixel = mask_to_box_pixel(sample["instances"][0].numpy())
            assert box_pixel == pytest.approx(np.array(mask_to_box_pixel(mask)) * scale, abs=1)


@pytest.mark.parametrize(
    ("plane", "label"), [("axial", "left kidney"), ("sagittal", "kidney")], ids=["axial", "sag"]
)
def test_a_sagittal_slice_names_no_side(a_phantom_volume, plane, label):
    sample = {
        "volume": a_phantom_volume.volume,
        "label_map": replace(a_phantom_volume.volume, array=a_phantom_volume.mask.astype(float)),
        "plane": plane,
        "index": 5,
        "record": a_record(plane=plane),
    }
    assert CutSlice(SIZE, {1: "kidney_left"})(sample)["labels"] == [label]


def test_a_cut_slice_goes_through_the_augmentation(a_labelled_scan):
    files = a_labelled_scan("a_phantom_volume").files
    chain = Compose(
        [
            LoadVolumed(["volume", "label_map"]),
            RandWindowPresetd(prob=1.0),
            CutSlice(SIZE, {3: "liver"}),
            augmentation(SIZE),
        ]
    )
    chain.set_random_state(0)
    sample = chain({**files, "plane": "axial", "index": 4, "record": a_record("liver")})
    assert sample["image"].shape == (1, SIZE, SIZE)
    assert sample["instances"].shape == (1, SIZE, SIZE)


def test_a_ct_comes_in_every_window(a_phantom_volume):
    draw = RandWindowPresetd(prob=1.0)
    draw.set_random_state(0)
    sample = {"volume": a_phantom_volume.volume}
    drawn = {draw(sample)["window"] for _ in range(60)}
    assert drawn == {PRESETS[name] for name in ("soft tissue", "lung", "bone", "brain")}


def test_only_a_ct_gets_another_window(a_phantom_volume):
    mr = replace(a_phantom_volume.volume, array=a_phantom_volume.volume.array + 1000)
    assert RandWindowPresetd(prob=1.0)({"volume": mr})["window"] is None


def test_suv_is_shown_from_0_to_10():
    assert to_uint8(np.array([-1.0, 0, 5, 10, 30]), PRESETS["suv"]).tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]


def test_what_cannot_be_cut_is_refused(a_phantom_volume, tmp_path):
    volume = a_phantom_volume.volume
    sample = {"volume": volume, "label_map": volume, "plane": "axial", "index": 99, "record": None}
    with pytest.raises(BadRequestError, match="slice"):
        CutSlice(SIZE, {})(sample)
    smaller = replace(volume, array=volume.array[1:])
    with pytest.raises(BirdError, match="label_map: has shape"):
        CutSlice(SIZE, {})({**sample, "label_map": smaller, "index": 0})
    with pytest.raises(BirdError, match="preset: must be one of soft tissue, lung"):
        WindowPresetd("liver")
    with pytest.raises(BadVolumeError, match="missing"):
        LoadVolumed("volume")({"volume": tmp_path / "missing.nii.gz"})


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ct_trunk_3mm", "pet_sts_001"])
def test_real_slices_are_the_same_in_training(shared, name):
    folder = shared / "data" / "volumes"
    sample = LoadVolumed(["volume", "label_map"])(
        {"volume": folder / f"{name}.nii.gz", "label_map": folder / f"{name}_labels.nii.gz"}
    )
    window = automatic_window(sample["volume"])
    shown = shown_at_inference(sample["volume"], "axial", window)
    for index in range(0, len(shown), 7):
        cut = CutSlice(SIZE, {})({**sample, "plane": "axial", "index": index, "record": None})
        assert torch.equal(cut["image"], squeezed(shown[index], SIZE))
