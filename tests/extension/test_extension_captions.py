"""Words as pixels: what is in them, and where they go when others are in the way."""

import numpy as np
import pytest

from BiRDLib.captions import pixels_of, places

RED = (1.0, 0.0, 0.0)
SIZE = (40, 10)


@pytest.mark.parametrize("words", ["liver 0.90", "Rückenmark 0.5", "gyj", "", "  "])
def test_every_pixel_lies_within_the_size_that_is_told(words):
    pixels = pixels_of(words, RED)
    assert pixels.offsets.shape == (len(pixels.colors), 2)
    assert (pixels.offsets >= 0).all()
    assert (pixels.offsets < [pixels.width, pixels.height]).all()
    assert len(np.unique(pixels.offsets, axis=0)) == len(pixels.offsets)
    assert bool(len(pixels.offsets)) == bool(words.strip())


def test_letters_have_the_colour_and_a_dark_edge():
    colors = pixels_of("liver 0.90", RED).colors
    assert (colors[:, 1:3] == 0).all()
    assert (colors == [255, 0, 0, 255]).all(axis=1).sum() > 20
    assert (colors[:, 0] < 10).sum() > 50


def test_letters_stand_upright():
    """An L has its foot at the bottom: more of it is in the lower half."""
    pixels = pixels_of("LLLL", RED)
    letters = pixels.offsets[pixels.colors[:, 0] > 200]
    assert np.median(letters[:, 1]) < pixels.height / 2


def test_a_larger_font_gives_larger_words():
    usual, large = pixels_of("liver", RED), pixels_of("liver", RED, 26)
    assert 1.7 < large.width / usual.width < 2.3
    assert 1.6 < large.height / usual.height < 2.4


@pytest.mark.parametrize(
    ("corners", "leftwards", "expected"),
    [
        pytest.param([(5, 7)], [False], [(5, 8)], id="alone"),
        pytest.param([(50, 7)], [True], [(10, 8)], id="leftwards"),
        pytest.param([(5, 7), (46, 7)], [False] * 2, [(5, 8), (46, 8)], id="beside"),
        pytest.param([(5, 7), (9, 9)], [False] * 2, [(5, 8), (9, 20)], id="up"),
        pytest.param([(5, 7), (5, 4)], [False] * 2, [(5, 8), (5, 25)], id="above, from below"),
        pytest.param(
            [(5, 7)] * 5,
            [False] * 5,
            [(5, 8), (5, 18), (5, 28), (5, -2), (5, 38)],
            id="up, then down",
        ),
        pytest.param([(5, 7)] * 6, [False] * 6, [(5, 8)], id="nothing is free"),
    ],
)
def test_words_go_where_there_is_room(corners, leftwards, expected):
    found = places(corners, leftwards, [SIZE] * len(corners))
    assert [tuple(place) for place in found[-len(expected) :]] == expected
