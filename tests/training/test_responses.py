"""What a response says: the authors' cuts and patterns, and whatever a model may write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.evaluation.responses import (
    boxes_as_authors,
    claim,
    clean_as_authors,
    clean_markers,
    names_every_word,
)
from bird_vlm.grammar import format_absent, format_present

boxes = st.tuples(*[st.integers(0, 1000)] * 4)


@pytest.mark.parametrize(
    ("response", "left"),
    [
        pytest.param("A liver.<|im_end|>\n<|im_start|>user\n", "A liver", id="cut-at-the-end"),
        pytest.param("A liver<|im_end|>\n", "A liver", id="end-without-full-stop"),
        pytest.param("A liver.<|endoftext|>", "A liver.", id="marker-stripped"),
        pytest.param("\n<box>(1,2),(3,4)</box>\n more", "<box>(1,2),(3,4)</box>", id="framed"),
        pytest.param("One\nTwo\nThree", "Two", id="the-middle-line-as-the-authors-have-it"),
        pytest.param("One\n\nTwo", "One\n\nTwo", id="nothing-between-the-newlines"),
        pytest.param("One\nTwo", "One\nTwo", id="one-newline"),
        pytest.param("", "", id="empty"),
        pytest.param("<|im_end|>", "", id="only-a-marker"),
    ],
)
def test_responses_are_cut_as_the_authors_cut_them(response, left):
    assert clean_as_authors(response) == left


def test_a_whole_response_keeps_its_paragraphs():
    assert clean_markers("One\nTwo\nThree<|im_end|>") == "One\nTwo\nThree"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("<ref>a</ref><box>(1,2),(3,4)</box>", [(1, 2, 3, 4)], id="marked"),
        pytest.param(
            "The a is at (1,2),(3,4) (5,6),(7,8)", [(1, 2, 3, 4), (5, 6, 7, 8)], id="bare"
        ),
        pytest.param("<box>(1,2)</box> at (1,2),(3,4)", [], id="marks-rule-out-bare-ones"),
        pytest.param("<box>(1,2)</box><box>(1,2),(3,4)</box>", [(1, 2, 3, 4)], id="one-malformed"),
        pytest.param("<box>(1,2),(3,4)", [], id="not-closed"),
        pytest.param("<box>(9,8),(3,4)</box>", [(9, 8, 3, 4)], id="swapped-corners-are-kept"),
        pytest.param("(1,2),(3", [], id="cut-off"),
        pytest.param("(1.5,2),(3,4)", [], id="no-integers"),
        pytest.param("(-1,2),(3,4)", [], id="negative"),
        pytest.param("", [], id="empty"),
    ],
)
def test_boxes_are_read_as_the_authors_read_them(text, expected):
    assert list(boxes_as_authors(text)) == expected


@given(st.lists(boxes, min_size=1, max_size=5).map(tuple))
def test_what_our_models_write_is_read_back(written):
    assert boxes_as_authors(clean_as_authors(format_present("liver", written))) == written


@given(st.text())
def test_no_text_breaks_the_reading(text):
    for box in boxes_as_authors(clean_as_authors(text)):
        assert len(box) == 4
    assert claim(text) in ("present", "absent", "unclear")
    assert names_every_word(text, text)


@given(st.text(alphabet="<>/boxref(),0123456789 \n|im_end", max_size=60))
def test_no_near_miss_breaks_the_reading(text):
    found = boxes_as_authors(clean_as_authors(text))
    assert all(isinstance(value, int) for box in found for value in box)


@given(st.text(), st.text())
def test_cleaning_twice_changes_no_claim(text, tail):
    response = f"{text}.<|im_end|>{tail}"
    assert clean_as_authors(response) == clean_as_authors(f"{text}.<|im_end|>")


@pytest.mark.parametrize(
    ("annotation", "response", "right"),
    [
        pytest.param("Left Kidney", "left kidney", True, id="case"),
        pytest.param("left kidney", "The kidney on the left.", True, id="any-order"),
        pytest.param("left kidney", "the right kidney", False, id="a-word-is-missing"),
        pytest.param("lung", "the lungs", True, id="substrings-count"),
        pytest.param("liver", "", False, id="no-answer"),
    ],
)
def test_a_name_needs_every_word(annotation, response, right):
    assert names_every_word(annotation, response) is right


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("<ref>liver</ref><box>(1,2),(3,4)</box>", "present", id="box"),
        pytest.param("<ref>liver</ref><box>(347,641)</box>", "present", id="malformed-box"),
        pytest.param("It is at (1,2),(3,4)", "present", id="bare-box"),
        pytest.param(format_absent("liver"), "absent", id="ours"),
        pytest.param("There is no liver here.", "absent", id="no"),
        pytest.param("I can't see a liver.", "absent", id="cannot"),
        pytest.param("", "unclear", id="empty"),
        pytest.param("The liver is large.", "unclear", id="prose"),
        pytest.param("A nodule, known to all.", "unclear", id="no-inside-a-word-is-no-denial"),
    ],
)
def test_claims_are_boxes_or_denials(text, said):
    assert claim(text) == said
