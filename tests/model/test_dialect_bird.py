"""BiRD's dialect is the grammar and the prompts, and nothing beside them."""

from __future__ import annotations

import pytest
from hypothesis import given

from bird_vlm.contract import REFERRING_TASKS
from bird_vlm.dialects import dialect_of
from bird_vlm.grammar import format_absent, format_present, parse_grounding
from bird_vlm.prompts import grounding_prompt, referring_prompt
from dialect_answers import A_PICTURE, assert_refused
from geometries import norm_boxes

BIRD = dialect_of("bird")
LIVER = "<ref>liver</ref><box>(52,180),(611,790)</box>"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(LIVER, id="single"),
        pytest.param(f"{LIVER}<box>(1,2),(3,4)</box>", id="several"),
        pytest.param("The liver is not present in the image.", id="none"),
        pytest.param(f"```\n{LIVER}\n```", id="markdown fence"),
        pytest.param(f"The organ is here: {LIVER}. Take care.", id="prose around"),
        pytest.param("<ref>Leber 肝臓</ref><box>(52,180),(611,790)</box>", id="unicode"),
        pytest.param("<ref> liver </ref>\n<box> (52, 180), (611, 790) </box>", id="white space"),
        pytest.param("<box>(52,180),(611,790)</box>", id="no name"),
        pytest.param(f"{LIVER}<|im_end|><|endoftext|>", id="end tokens"),
        pytest.param("<ref>spleen</ref><box>(1,2),(3,4)</box>", id="another name"),
    ],
)
def test_answers_are_read_by_the_grammar(text):
    assert BIRD.parse(text, A_PICTURE, "liver") == parse_grounding(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "neither", id="empty"),
        pytest.param("<ref>liver</ref><box>(52,180),(6", "without", id="cut off"),
        pytest.param("<box>(611,180),(52,790)</box>", "swapped", id="swapped corners"),
        pytest.param("<box>(52,180),(611,1790)</box>", "exceeds", id="out of range"),
        pytest.param("<box>(5.2,1.8),(6.1,7.9)</box>", "malformed", id="floats"),
        pytest.param("<quad>(52,180),(611,790)</quad>", "neither", id="wrong mark"),
        pytest.param(f"{LIVER}<ref>spleen</ref><box>(1,2),(3,4)</box>", "2 objects", id="two"),
        pytest.param('[{"bbox_2d": [52, 180, 611, 790]}]', "neither", id="JSON"),
    ],
)
def test_answers_that_are_refused_with_the_text(text, reason):
    assert_refused(BIRD, text, reason)


@given(norm_boxes())
def test_prompts_and_answers_are_those_that_bird_is_trained_on(box_norm):
    assert BIRD.grounding_prompt("liver") == grounding_prompt("liver")
    assert BIRD.format("liver", (box_norm,), A_PICTURE) == format_present("liver", (box_norm,))
    assert BIRD.format("liver", (), A_PICTURE) == format_absent("liver")
    assert BIRD.asking_prompt("Is it normal?") == "Is it normal?"
    for task in REFERRING_TASKS:
        assert BIRD.referring_prompt(task, box_norm, A_PICTURE) == referring_prompt(task, box_norm)
