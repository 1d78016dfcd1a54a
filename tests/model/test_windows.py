"""Windows: what is shown black and white, and the one way to a slice picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume, read_volume
from bird_vlm.windows import (
    CT_WINDOWS,
    EIGHT_BITS,
    automatic_window,
    slice_picture,
    to_uint8,
)

RNG = np.random.default_rng(0)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def a_volume(values: np.ndarray) -> Volume:
    return Volume(np.asarray(values, dtype=np.float32), LPS)


def a_head(background: float = 0.0) -> np.ndarray:
    """Grey values 100..1000 inside a block that fills a third of the volume."""
    values = np.full((20, 20, 20), background)
    values[3:17, 3:17, 3:17] = RNG.uniform(100, 1000, (14, 14, 14))
    return values


@given(st.floats(-2000, 2000), st.floats(0.1, 4000))
def test_a_window_runs_from_black_to_white(level, width):
    ends = np.array([level - width, level - width / 2, level, level + width / 2, level + width])
    black, darkest, middle, brightest, white = to_uint8(ends, (level, width)).tolist()
    assert (black, white) == (0, 255)
    assert darkest <= 1
    assert middle in (127, 128)
    assert brightest >= 254


def test_eight_bits_show_every_value_as_it_is():
    values = np.arange(256, dtype=np.float32)
    np.testing.assert_array_equal(to_uint8(values, EIGHT_BITS), values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.where(a_head() > 0, 40.0, -1000.0), id="body in air"),
        pytest.param(np.where(a_head() > 0, 40.0, -2000.0) - 900 * (a_head() > 700), id="padded"),
        pytest.param(np.where(a_head() > 0, a_head() * 3, -1024.0), id="with metal"),
    ],
)
def test_ct_gets_the_soft_tissue_window(values):
    assert automatic_window(a_volume(values)) == CT_WINDOWS["soft tissue"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(RNG.normal(size=(9, 9, 9)), id="standardised MR"),
        pytest.param(a_head(), id="MR"),
        pytest.param(RNG.uniform(-4096, 4095, (20, 20, 20)), id="phase image"),
        pytest.param(a_head() / 100, id="PET"),
        pytest.param(np.where(a_head() > 0, -1000.0, -3000.0) * 0 - 600, id="constant"),
    ],
)
def test_what_is_no_ct_gets_a_window_of_its_own(values):
    assert automatic_window(a_volume(values)) != CT_WINDOWS["soft tissue"]


@pytest.mark.parametrize("background", [0.0, -5.0, 50.0])
def test_other_volumes_span_their_foreground(background):
    level, width = automatic_window(a_volume(a_head(background)))
    assert level - width / 2 == pytest.approx(104.5, abs=6)
    assert level + width / 2 == pytest.approx(995.5, abs=6)


@pytest.mark.parametrize("value", [0.0, 7.0, -1000.0])
def test_a_constant_volume_has_a_usable_window(value):
    level, width = automatic_window(a_volume(np.full((5, 5, 5), value)))
    assert (level, width) == (value, 1)


def test_a_mask_of_two_values_shows_both():
    values = np.zeros((8, 8, 8))
    values[2:4] = 1
    volume = a_volume(values)
    stack = slice_stack(volume.geometry(), "axial")
    assert set(np.unique(slice_picture(volume, stack, 3))) == {0, 255}


def test_an_eight_bit_picture_stays_as_it_is():
    picture = RNG.integers(30, 180, (20, 30))
    volume = a_volume(picture.T[:, :, None])
    shown = slice_picture(volume, slice_stack(volume.geometry(), "axial"), 0)
    np.testing.assert_array_equal(shown, picture)


def test_a_colour_picture_passes_unchanged_through_any_window():
    picture = RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    volume = Volume(picture.swapaxes(0, 1)[:, :, None], LPS)
    stack = slice_stack(volume.geometry(), "axial")
    for window in (None, (0.0, 10.0)):
        np.testing.assert_array_equal(slice_picture(volume, stack, 0, window), picture)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_slice_picture_is_the_cut_through_the_window(plane, an_oblique_volume):
    volume = an_oblique_volume.volume
    stack = slice_stack(volume.geometry(), plane)
    shown = slice_picture(volume, stack, 4, (0, 400))
    assert shown.dtype == np.uint8
    assert shown.shape == (stack.height, stack.width)
    np.testing.assert_array_equal(shown, to_uint8(stack.cut(volume.array, 4), (0, 400)))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "is_ct"),
    [
        pytest.param("ct_trunk_3mm", True, id="trunk CT"),
        pytest.param("ct_sts_001", True, id="PET/CT's CT"),
        pytest.param("mr_trunk", False, id="MR"),
        pytest.param("mr_brain_pat0001_flair", False, id="standardised FLAIR"),
        pytest.param("pet_sts_001", False, id="PET"),
    ],
)
def test_real_volumes(shared, name, is_ct):
    volume = read_volume(shared / f"data/volumes/{name}.nii.gz")
    level, width = automatic_window(volume)
    assert ((level, width) == CT_WINDOWS["soft tissue"]) == is_ct
    shown = to_uint8(volume.array, (level, width))
    assert shown[volume.array != 0].std() > 10
