"""Where the numbers of boxes stand in answers, and how sure a model was of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.backbones.chat_answer import picture_answer
from bird_vlm.backbones.chat_writer import Written
from bird_vlm.dialects import DIALECTS, ShownPicture
from bird_vlm.dialects.written import number_spans

SHOWN = ShownPicture(512, 400, 504, 392)
BOXES = ((52, 180, 611, 790), (100, 0, 1000, 500))


@pytest.mark.parametrize("name", DIALECTS)
def test_the_numbers_of_every_box_are_found(name: str):
    dialect = DIALECTS[name]
    text = dialect.format("liver", BOXES, SHOWN)
    spans = number_spans(dialect, text, SHOWN)
    assert tuple(spans) == dialect.parse(text, SHOWN, "liver").boxes_norm
    for box, box_norm in zip(BOXES, spans, strict=True):
        numbers = [int(text[slice(*span)]) for span in spans[box_norm]]
        assert numbers == list(dialect.grid(SHOWN).write(box))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        pytest.param('[{"bbox_2d": [1, 2, 30, 40]}, {"bbox_2d": [1, 2, 30, 40]}]', 14, id="twice"),
        pytest.param('[{"bbox_2d":[1,2,30,40]}]', 13, id="no blanks"),
        pytest.param('[{"bbox_2d" :\n [ 1.0 ,2e0, 30,40 ] }]', 17, id="blanks and floats"),
        pytest.param('[{"bbox_2d": [1, 2]}, {"bbox_2d": [1, 2, 30, 40]}]', 35, id="after a pair"),
        pytest.param('{"bbox_2d": [9, 9, 1, 1]} {"bbox_2d": [1, 2, 30, 40]}', 39, id="swapped"),
        pytest.param(
            '{"bbox_2d": [1.2.3, 2, 30, 40], "bbox_2d": [1, 2, 30, 40]}', 44, id="no number"
        ),
    ],
)
def test_a_box_is_found_where_it_is_first_written(text: str, first: int):
    spans = number_spans(DIALECTS["qwen3-vl"], text, SHOWN)
    assert list(spans) == [(1, 2, 30, 40)]
    assert spans[1, 2, 30, 40][0][0] == first


def test_text_without_boxes_has_no_numbers():
    for dialect in DIALECTS.values():
        assert number_spans(dialect, "There is no liver in slice 4 of [1, 2, 3, 4].", SHOWN) == {}


@pytest.mark.parametrize(
    ("spans", "certainty"),
    [
        pytest.param([(0, 1)], 0.5, id="one token"),
        pytest.param([(1, 3)], 0.2, id="one token of two letters"),
        pytest.param([(2, 3)], 0.2, id="a part of a token"),
        pytest.param([(0, 3)], 0.1**0.5, id="two tokens"),
        pytest.param([(0, 1), (3, 4)], 0.4**0.5, id="two places"),
        pytest.param([], 0.0, id="nowhere"),
    ],
)
def test_certainty_is_that_of_the_tokens_in_place(spans, certainty: float):
    written = Written("abbc", stops=(1, 3, 4), probabilities=(0.5, 0.2, 0.8))
    assert written.certainty_of(spans) == pytest.approx(certainty)


def test_certainty_of_all_tokens_is_their_geometric_mean():
    written = Written("abbc", stops=(1, 3, 4), probabilities=(0.5, 0.2, 0.8))
    assert written.certainty == pytest.approx((0.5 * 0.2 * 0.8) ** (1 / 3))
    assert Written("", (), ()).certainty == 0


PIECES = [
    *(
        '[{"',
        "bbox_2d",
        "box_2d",
        '": [',
        "1",
        "52",
        "999.5",
        "1e999",
        ", ",
        "]",
        "}",
        '"label": "',
        '"',
    ),
    *("<loc0001>", "<loc0512>", "<loc9999>", " ; ", "<p bbox=", " id=<seg000>>", "</p>", "liver"),
    *("<ref>", "</ref>", "<box>", "</box>", "(1,2),(30,40)", "There is no ", "<think>", "\\u005f"),
]


@given(pieces=st.lists(st.sampled_from(PIECES) | st.characters(), max_size=30))
def test_whatever_is_written_is_an_answer(pieces: list[str]):
    stops, text = [], ""
    for piece in pieces:
        text += piece
        stops.append(len(text))
    written = Written(text, tuple(stops), (0.5,) * len(pieces))
    for dialect in DIALECTS.values():
        answer = picture_answer(dialect, "liver", 0.9, written, SHOWN)
        assert answer.text == text
        assert answer.scores == pytest.approx([0.5] * len(answer.boxes_norm))
        assert not (answer.unreadable and answer.boxes_norm)


def test_numbers_in_a_spelling_of_their_own_are_as_sure_as_the_answer():
    written = Written('[{"bbox\\u005f2d": [1, 2, 30, 40]}]', (10, 35), (0.2, 0.8))
    answer = picture_answer(DIALECTS["qwen3-vl"], "liver", 0.9, written, SHOWN)
    assert answer.boxes_norm == ((1, 2, 30, 40),)
    assert answer.scores == pytest.approx([0.4])
