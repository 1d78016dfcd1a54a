"""Answers of PaliGemma, in location tokens."""

from __future__ import annotations

import pytest

from bird_vlm.dialects import dialect_of
from bird_vlm.errors import BadRequestError
from dialect_answers import A_PICTURE, assert_refused

PALIGEMMA = dialect_of("paligemma")
FIRST = (120, 446, 771, 978)  # of <loc0456><loc0123><loc1000><loc0789>
SECOND = (0, 0, 1000, 1000)
LIVER = "<loc0456><loc0123><loc1000><loc0789> liver"


@pytest.mark.parametrize(
    ("text", "label", "boxes_norm"),
    [
        pytest.param(LIVER, "liver", (FIRST,), id="single"),
        pytest.param(
            f"{LIVER} ; <loc0000><loc0000><loc1023><loc1023> liver",
            "liver",
            (FIRST, SECOND),
            id="several",
        ),
        pytest.param("", "", (), id="none"),
        pytest.param(" \n", "", (), id="none but blanks"),
        pytest.param("<eos>", "", (), id="none but the end"),
        pytest.param("<eos><pad><pad>", "", (), id="none but the end and padding"),
        pytest.param(f"{LIVER}<eos>", "liver", (FIRST,), id="end token"),
        pytest.param(f"\n {LIVER} \n", "liver", (FIRST,), id="blanks around"),
        pytest.param(
            "<loc0456> <loc0123> <loc1000>\n<loc0789>liver", "liver", (FIRST,), id="blanks within"
        ),
        pytest.param(
            f"{LIVER};<loc0000><loc0000><loc1023><loc1023>liver",
            "liver",
            (FIRST, SECOND),
            id="no blanks",
        ),
        pytest.param("<loc0456><loc0123><loc1000><loc0789>", "", (FIRST,), id="no name"),
        pytest.param(
            f"<loc0000><loc0000><loc1023><loc1023> spleen ; {LIVER}",
            "liver",
            (FIRST,),
            id="another object beside",
        ),
        pytest.param(
            "<loc0456><loc0123><loc1000><loc0789>" + "<seg042>" * 16 + " liver",
            "liver",
            (FIRST,),
            id="with a mask",
        ),
        pytest.param(LIVER.replace("liver", "Liver"), "Liver", (FIRST,), id="capital letter"),
        pytest.param(
            "<loc0456><loc0123><loc1000><loc0789> Leber 肝臓",
            "Leber 肝臓",
            (FIRST,),
            id="another language",
        ),
        pytest.param(
            "<loc0000><loc0000><loc0001><loc0001> liver", "liver", ((0, 0, 1, 1),), id="smallest"
        ),
        pytest.param(" ; ".join([LIVER] * 9), "liver", (FIRST,), id="said again and again"),
    ],
)
def test_answers_that_are_read(text, label, boxes_norm):
    grounding = PALIGEMMA.parse(text, A_PICTURE, "liver")
    assert (grounding.label, grounding.boxes_norm) == (label, boxes_norm)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("<loc0456><loc0123><loc10", "4 location", id="cut off in a token"),
        pytest.param("<loc0456><loc0123><loc1000> liver", "4 location", id="three tokens"),
        pytest.param(f"<loc0001>{LIVER}", "4 location", id="five tokens"),
        pytest.param(f"{LIVER} ; <loc0456>", "4 location", id="second cut off"),
        pytest.param(f"{LIVER} ;", "4 location", id="cut off behind the separator"),
        pytest.param(f"{LIVER} {LIVER}", "4 location", id="separator missing"),
        pytest.param(f"The liver is at {LIVER}", "4 location", id="prose before"),
        pytest.param("liver", "4 location", id="name only"),
        pytest.param("<loc456><loc123><loc1000><loc789> liver", "4 location", id="short tokens"),
        pytest.param("<loc045.5><loc0123><loc1000><loc0789> liver", "4 location", id="floats"),
        pytest.param("<loc٠٤٥٦><loc0123><loc1000><loc0789>", "4 location", id="other digits"),
        pytest.param('[{"box_2d": [456, 123, 1000, 789]}]', "4 location", id="JSON"),
        pytest.param("<loc0456><loc0123><loc1000><seg001>", "4 location", id="a mask token"),
        pytest.param("<loc1000><loc0123><loc0456><loc0789> liver", "swapped", id="swapped corners"),
        pytest.param("<loc0456><loc0123><loc0456><loc0789> liver", "empty", id="no height"),
        pytest.param("<loc0456><loc0123><loc1025><loc0789> liver", "exceeds", id="out of range"),
        pytest.param(
            "A normal <p bbox=<loc0026><loc0092><loc0312><loc0404> id=<seg005>>liver</p>.",
            "4 location",
            id="RadGrounder's language",
        ),
    ],
)
def test_answers_that_are_refused_with_the_text(text, reason):
    assert_refused(PALIGEMMA, text, reason)


def test_a_label_that_would_be_two_objects_is_refused():
    with pytest.raises(BadRequestError, match="one by one"):
        PALIGEMMA.grounding_prompt("liver ; spleen")


def test_a_question_stays_on_one_line():
    assert PALIGEMMA.asking_prompt("Is it\n normal?") == "answer en Is it normal?"
