"""Answers of RadGrounder: captions with boxes around their keywords."""

from __future__ import annotations

import pytest

from bird_vlm.contract import REFERRING_TASKS
from bird_vlm.dialects import dialect_of
from bird_vlm.errors import BadRequestError
from dialect_answers import A_PICTURE, ONE, assert_refused

RADGROUNDER = dialect_of("radgrounder")
FIRST = (125, 250, 500, 750)  # of 64, 128, 256, 384 in 512 bins
SECOND = (0, 0, 1000, 1000)
LIVER = "<p bbox=<loc0064><loc0128><loc0256><loc0384> id=<seg005>>liver</p>"
SPLEEN = "<p bbox=<loc0000><loc0000><loc0512><loc0512> id=<seg001>>spleen</p>"


@pytest.mark.parametrize(
    ("text", "boxes_norm"),
    [
        pytest.param(f"Normal {LIVER}.", (FIRST,), id="single"),
        pytest.param(f"{LIVER}", (FIRST,), id="nothing around"),
        pytest.param(f"No lesion in {LIVER} or {SPLEEN}.", (FIRST,), id="another object"),
        pytest.param(f"{LIVER}. The {LIVER} is smooth.", (FIRST,), id="mentioned twice"),
        pytest.param(
            f"{LIVER}, {SPLEEN.replace('spleen', 'Liver')}", (FIRST, SECOND), id="several"
        ),
        pytest.param("", (), id="empty"),
        pytest.param("No evidence of ascites.", (), id="no keyword"),
        pytest.param("The liver is unremarkable.", (), id="mentioned without a box"),
        pytest.param(f"Normal {SPLEEN}.", (), id="another object only"),
        pytest.param(f"{LIVER.replace('>liver', '> the liver ')}", (FIRST,), id="blanks"),
        pytest.param(
            "<p bbox= <loc0064> <loc0128> <loc0256> <loc0384> id= <seg005> >liver</p>",
            (FIRST,),
            id="blanks of the tokenizer",
        ),
        pytest.param(f"{LIVER}<eos>", (FIRST,), id="end token"),
        pytest.param(f"Erste Zeile\n{LIVER}\nLetzte Zeile: größer", (FIRST,), id="lines"),
    ],
)
def test_answers_that_are_read(text, boxes_norm):
    assert RADGROUNDER.parse(text, A_PICTURE, "liver").boxes_norm == boxes_norm


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("Normal <p bbox=<loc0064><loc01", "cut off", id="cut off in a token"),
        pytest.param(LIVER.removesuffix("</p>"), "cut off", id="not closed"),
        pytest.param(f"{LIVER} and <p", "cut off", id="second cut off"),
        pytest.param(LIVER.replace("<loc0064>", ""), "malformed", id="three tokens"),
        pytest.param(LIVER.replace(" id=<seg005>", ""), "malformed", id="no class"),
        pytest.param(LIVER.replace("liver", ""), "malformed", id="no keyword"),
        pytest.param("<loc0456><loc0123><loc1000><loc0789> liver", "malformed", id="PaliGemma's"),
        pytest.param(LIVER.replace("0256", "0032"), "swapped", id="swapped corners"),
        pytest.param(LIVER.replace("0256", "0064"), "empty", id="no width"),
        pytest.param(LIVER.replace("0384", "0600"), "exceeds", id="out of range"),
    ],
)
def test_answers_that_are_refused_with_the_text(text, reason):
    assert_refused(RADGROUNDER, text, reason)


def test_every_label_is_asked_by_the_same_caption():
    assert RADGROUNDER.grounding_prompt("liver") == RADGROUNDER.grounding_prompt("spleen")


@pytest.mark.parametrize("task", REFERRING_TASKS)
def test_a_box_cannot_be_asked_about(task):
    with pytest.raises(BadRequestError, match="ask a free question"):
        RADGROUNDER.referring_prompt(task, ONE, A_PICTURE)
