"""Which slices become pictures, in which window, and that inference shows the same ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bird_training.sources.slicing import WINDOWS, check_window, read_scan, shown_slices
from bird_vlm.answers import PictureAnswer
from bird_vlm.contract import PLANES, GroundingRequest
from bird_vlm.errors import BadVolumeError, BirdError
from bird_vlm.model_card import ModelCard
from bird_vlm.slices import slice_stack
from bird_vlm.tensor_cache import TensorCache
from bird_vlm.volume import grounding_events
from bird_vlm.windows import automatic_window, to_uint8

VOLUMES = ["a_phantom_volume", "an_oblique_volume", "a_left_handed_volume"]


class WatchingEngine:
    """A model that finds nothing and keeps every picture it is shown."""

    card = ModelCard("watching")

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.features = TensorCache()
        self.pictures: list[np.ndarray] = []

    def encode(self, pictures) -> torch.Tensor:
        self.pictures += pictures
        return torch.zeros(len(pictures), 1, 1)

    def ground(self, features, labels, threshold, names) -> list[list[PictureAnswer]]:
        return [[PictureAnswer(0.0, "") for _ in labels] for _ in features]


def shown_at_inference(volume, plane, window) -> list[np.ndarray]:
    engine = WatchingEngine()
    for _ in grounding_events(engine, volume, GroundingRequest(("x",), plane, window=window)):
        pass
    return engine.pictures


@pytest.mark.parametrize("preset", [None, "lung"], ids=["automatic", "lung"])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("kind", VOLUMES)
def test_training_sees_what_inference_shows(request, tmp_path, kind, plane, preset):
    phantom = request.getfixturevalue(kind)
    volume, window = read_scan(phantom.save(tmp_path / "scan.nii.gz"), "ct", preset)
    at_inference = shown_at_inference(phantom.volume, plane, WINDOWS.get(preset))
    shown = list(shown_slices(volume, window, (plane,), step=1))
    assert len(shown) > 5
    for one in shown:
        np.testing.assert_array_equal(one.picture, at_inference[one.index])
        mask = slice_stack(phantom.volume.geometry(), plane).cut(phantom.mask, one.index)
        np.testing.assert_array_equal(one.cut(phantom.mask), mask)


@pytest.mark.parametrize("step", [1, 3, 999], ids=["all", "third", "wider-than-the-scan"])
def test_every_so_manieth_slice_is_taken(a_phantom_volume, step):
    volume = replace(a_phantom_volume.volume, array=a_phantom_volume.volume.array * 0 + 100)
    count = slice_stack(volume.geometry(), "axial").count
    indices = [one.index for one in shown_slices(volume, (40, 400), ("axial",), step)]
    assert indices == list(range(min(step, count) // 2, count, step))


def test_slices_that_show_nothing_are_left_out(a_phantom_volume):
    volume = replace(a_phantom_volume.volume, array=np.full_like(a_phantom_volume.volume.array, -1))
    volume.array[..., 2] = 1
    assert [s.index for s in shown_slices(volume, (0.5, 1), ("axial",), 1)] == [2]


@pytest.mark.parametrize(
    ("preset", "modality", "needed"),
    [
        pytest.param("lung", "mr", "ct", id="ct-window-on-mr"),
        pytest.param("brain", "pet", "ct", id="ct-window-on-pet"),
        pytest.param("suv", "ct", "pet", id="suv-on-ct"),
    ],
)
def test_a_window_of_another_modality_is_refused(
    a_phantom_volume, tmp_path, preset, modality, needed
):
    path = a_phantom_volume.save(tmp_path / "scan.nii.gz")
    with pytest.raises(
        BirdError, match=f"{preset}' is for {needed} and .*scan.nii.gz is {modality}"
    ):
        read_scan(path, modality, preset)


def test_a_pet_file_without_dicom_tags_has_no_suv(a_phantom_volume, tmp_path):
    path = a_phantom_volume.save(tmp_path / "scan.nii.gz")
    with pytest.raises(BadVolumeError, match=r"scan\.nii\.gz: holds 0 DICOM series; SUV needs"):
        read_scan(path, "pet", "suv")


def test_suv_is_shown_from_0_to_10():
    shown = to_uint8(np.array([-1.0, 0, 5, 10, 30]), WINDOWS["suv"]).tolist()
    assert shown == [0, 0, 128, 255, 255]


def test_the_names_of_windows_are_told():
    with pytest.raises(BirdError, match=r"window: must be one of soft tissue, lung.*, suv, got 'l"):
        check_window("liver")
    for name in (None, *WINDOWS):
        check_window(name)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ct_trunk_3mm", "pet_sts_001"])
def test_real_slices_are_the_same_in_training(shared, name):
    volume, window = read_scan(shared / "data" / "volumes" / f"{name}.nii.gz", name[:2])
    at_inference = shown_at_inference(volume, "axial", automatic_window(volume))
    for one in shown_slices(volume, window, ("axial",), 7):
        np.testing.assert_array_equal(one.picture, at_inference[one.index])
