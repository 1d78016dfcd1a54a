"""Grammar: what a model may say, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.errors import GrammarError
from bird_vlm.grammar import (
    BOX_START,
    Grounding,
    format_absent,
    format_present,
    parse_grounding,
)
from geometries import norm_boxes

words = st.from_regex(r"[a-z][a-z0-9-]{0,9}( [a-z0-9-]{1,9}){0,3}", fullmatch=True)


@given(words, st.lists(norm_boxes(), min_size=1, max_size=5).map(tuple))
def test_boxes_are_read_as_they_were_written(label, boxes_norm):
    assert parse_grounding(format_present(label, boxes_norm)) == Grounding(label, boxes_norm)


@given(words)
def test_absence_is_read_as_it_was_written(label):
    assert parse_grounding(format_absent(label)) == Grounding(label, ())


@given(words, norm_boxes(), st.data())
def test_a_cut_off_box_is_refused(label, box_norm, data):
    one, two = format_present(label, (box_norm,)), format_present(label, (box_norm, box_norm))
    inside_second = st.integers(len(one + BOX_START), len(two) - 1)
    cut = data.draw(st.integers(0, len(one) - 1) | inside_second)
    with pytest.raises(GrammarError):
        parse_grounding(two[:cut])


@given(st.text(alphabet="<>/refbox)0123456789, .liver", max_size=60))
def test_text_without_corners_is_refused_with_the_text(text):
    with pytest.raises(GrammarError) as refused:
        parse_grounding(text)
    assert repr(text) in str(refused.value)


ONE = ((52, 180, 611, 790),)


@pytest.mark.parametrize(
    ("text", "label", "boxes_norm"),
    [
        pytest.param("<ref>liver</ref><box>(52,180),(611,790)</box>", "liver", ONE, id="plain"),
        pytest.param("<box>(52,180),(611,790)</box>", "", ONE, id="no reference"),
        pytest.param(
            "The <ref>liver</ref> is at <box>(52,180),(611,790)</box>.<|endoftext|>",
            "liver",
            ONE,
            id="prose and end token",
        ),
        pytest.param(
            "<ref> liver </ref>\n<box> (52, 180), (611, 790) </box>", "liver", ONE, id="blanks"
        ),
        pytest.param(
            "<ref>lung</ref><box>(80,90),(410,880)</box><box>(560,95),(900,870)</box>",
            "lung",
            ((80, 90, 410, 880), (560, 95, 900, 870)),
            id="two boxes",
        ),
        pytest.param(
            "<ref>lung</ref><box>(1,2),(3,4)</box> and <ref>lung</ref><box>(5,6),(7,8)</box>",
            "lung",
            ((1, 2, 3, 4), (5, 6, 7, 8)),
            id="reference repeated",
        ),
        pytest.param(
            "<ref>brain</ref><box>(0,0),(1000,1000)</box>",
            "brain",
            ((0, 0, 1000, 1000),),
            id="full",
        ),
        pytest.param("<box>(999,999),(1000,1000)</box>", "", ((999, 999, 1000, 1000),), id="unit"),
        pytest.param("The kidney is not present in the image.", "kidney", (), id="absent"),
        pytest.param(
            "I am sorry. The <ref>left kidney</ref> is not present in the image",
            "left kidney",
            (),
            id="absent, with reference and prose",
        ),
    ],
)
def test_answers_that_are_read(text, label, boxes_norm):
    assert parse_grounding(text) == Grounding(label, boxes_norm)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "neither", id="empty"),
        pytest.param("The liver looks normal.", "neither", id="prose only"),
        pytest.param("<ref>liver</ref>", "neither", id="reference only"),
        pytest.param("(52,180),(611,790)", "neither", id="numbers without a box"),
        pytest.param("<box>(52,180),(611,790)", "without", id="box not closed"),
        pytest.param("(52,180),(611,790)</box>", "without", id="box not opened"),
        pytest.param("<ref>liver<box>(1,2),(3,4)</box>", "without", id="reference not closed"),
        pytest.param("<box>(52,180),(611</box>", "malformed", id="cut inside"),
        pytest.param("<box></box>", "malformed", id="empty box"),
        pytest.param("<box>(1,2)<box>(3,4),(5,6)</box>", "without", id="nested"),
        pytest.param("<box>(52,180)(611,790)</box>", "malformed", id="comma missing"),
        pytest.param("<box>(52,180),(611,790),(1,2)</box>", "malformed", id="three corners"),
        pytest.param("<box>(-5,180),(611,790)</box>", "malformed", id="negative"),
        pytest.param("<box>(0.5,0.1),(0.6,0.9)</box>", "malformed", id="fractions"),
        pytest.param("<box>(٥,1),(٦,9)</box>", "malformed", id="digits of another script"),
        pytest.param("<box>(52,180),(611,1001)</box>", "exceeds", id="beyond 1000"),
        pytest.param("<box>(611,180),(52,790)</box>", "swapped", id="swapped corners"),
        pytest.param("<box>(52,180),(52,790)</box>", "empty", id="no width"),
        pytest.param(
            "The liver is not present in the image.<box>(1,2),(3,4)</box>", "both", id="both"
        ),
        pytest.param(
            "<ref>liver</ref><box>(1,2),(3,4)</box><ref>spleen</ref><box>(5,6),(7,8)</box>",
            "2 objects",
            id="two objects",
        ),
        pytest.param(
            "<ref>lung</ref><box>(1,2),(3,4)</box><box>(5,6),(7", "without", id="second cut off"
        ),
    ],
)
def test_answers_that_are_refused_with_the_text(text, reason):
    with pytest.raises(GrammarError, match=reason) as refused:
        parse_grounding(text)
    assert repr(text) in str(refused.value)
