"""Qwen2.5-VL: pixels of the resized picture, and the size that it is resized to."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from bird_vlm.boxes import NORM_MAX, norm_to_pixel
from bird_vlm.dialects import ShownPicture, dialect_of, shown_to_qwen
from bird_vlm.errors import BadRequestError
from geometries import pixel_boxes

QWEN = dialect_of("qwen2.5-vl")
LEAST, MOST = 4 * 28 * 28, 256 * 28 * 28
lengths = st.integers(1, 2000)


@st.composite
def shown_boxes(draw) -> tuple[ShownPicture, tuple[float, float, float, float]]:
    """A picture of any shape as Qwen2.5-VL sees it, and a box around whole pixels of it."""
    width, height = draw(lengths), draw(lengths)
    assume(max(width, height) <= 200 * min(width, height))
    return shown_to_qwen(width, height), draw(pixel_boxes(width, height))


SIZES = [
    pytest.param(512, 512, (504, 504), id="a CT slice"),
    pytest.param(37, 911, (28, 924), id="tall"),
    pytest.param(911, 37, (924, 28), id="wide"),
    pytest.param(1, 1, (56, 56), id="one pixel"),
    pytest.param(29, 31, (56, 84), id="small and odd"),
    pytest.param(640, 480, (644, 476), id="each side its own way"),
    pytest.param(5000, 4000, (4004, 3192), id="a radiograph"),
]


@pytest.mark.parametrize(("width", "height", "size"), SIZES)
def test_the_size_that_a_picture_is_resized_to(width, height, size):
    assert shown_to_qwen(width, height) == ShownPicture(width, height, *size)


@pytest.mark.parametrize(("width", "height"), [(512, 512), (37, 911), (700, 31), (640, 480)])
@pytest.mark.parametrize("area_pixels", [(LEAST, MOST), (64 * 28 * 28, 100 * 28 * 28)])
def test_the_size_is_the_one_that_the_real_processor_makes(width, height, area_pixels):
    least, most = area_pixels
    processor = Qwen2VLImageProcessorPil(min_pixels=least, max_pixels=most)
    made = processor(Image.new("RGB", (width, height)), return_tensors="np")
    _, rows, columns = made["image_grid_thw"][0] * processor.patch_size
    shown = shown_to_qwen(width, height, area_pixels)
    assert (shown.input_width, shown.input_height) == (columns, rows)


def test_a_picture_that_is_a_line_is_refused_with_what_to_do():
    with pytest.raises(BadRequestError, match=r"1 x 911 pixels .* crop it"):
        shown_to_qwen(1, 911)


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(BadRequestError, match=r"width: .*got 0"):
        shown_to_qwen(0, 911)


@given(shown_boxes())
def test_a_box_of_the_given_picture_survives_the_resizing(shown_box):
    """Box in pixels of the picture -> text in pixels of the resized one -> norm -> box in pixels.

    Within one pixel of the resized picture and half a norm unit.
    """
    shown, box_pixel = shown_box
    scales = (shown.input_width / shown.width, shown.input_height / shown.height) * 2
    numbers = [v * scale for v, scale in zip(box_pixel, scales, strict=True)]
    text = json.dumps([{"bbox_2d": list(map(round, numbers)), "label": "liver"}])
    assume(round(numbers[0]) < round(numbers[2]) and round(numbers[1]) < round(numbers[3]))
    (box_norm,) = QWEN.parse(text, shown, "liver").boxes_norm
    read = norm_to_pixel(box_norm, shown.width, shown.height)
    sides = (shown.width, shown.height) * 2
    for was, now, scale, side in zip(box_pixel, read, scales, sides, strict=True):
        assert abs(was - now) <= 0.5 / scale + side / NORM_MAX  # a side may be moved a unit


@pytest.mark.parametrize(
    ("width", "height", "numbers", "box_norm"),
    [
        pytest.param(37, 911, [7, 231, 21, 693], (250, 250, 750, 750), id="tall"),
        pytest.param(911, 37, [231, 7, 693, 21], (250, 250, 750, 750), id="wide"),
        pytest.param(37, 911, [27, 923, 28, 924], (964, 999, 1000, 1000), id="last pixel"),
        pytest.param(640, 480, [161, 119, 483, 357], (250, 250, 750, 750), id="two scales"),
    ],
)
def test_places_on_pictures_that_are_not_square(width, height, numbers, box_norm):
    shown = shown_to_qwen(width, height)
    text = json.dumps([{"bbox_2d": numbers, "label": "liver"}])
    assert QWEN.parse(text, shown, "liver").boxes_norm == (box_norm,)
    assert QWEN.format("liver", (box_norm,), shown) == text


def test_pixels_of_the_given_picture_do_not_fit_the_smaller_resized_one():
    shown = shown_to_qwen(2000, 1000, (LEAST, MOST))
    with pytest.raises(ValueError, match="exceeds the"):
        QWEN.parse('[{"bbox_2d": [10, 10, 1990, 990]}]', shown, "liver")
