"""Med-GRIT's questions and answers in another family's dialect: places, presence, words kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bird_training.conversations import Conversation, Exchange
from bird_training.tuning.chat_spans import chat_and_answers
from bird_training.tuning.rewording import place_of, reworded
from bird_vlm.dialects import QWEN3, QWEN25, ShownPicture
from bird_vlm.errors import BirdError
from bird_vlm.prompts import grounding_prompt, referring_prompt

PICTURE = Path("a.png")
SHOWN = ShownPicture(width=100, height=50, input_width=200, input_height=100)
BOX = "<box>(100,200),(500,1000)</box>"
LIVER = f"<ref>liver</ref>{BOX}"


def a_talk(*pairs: tuple[str, str]) -> Conversation:
    (question, answer), *rest = pairs
    exchanges = [Exchange(question, answer, (PICTURE,)), *(Exchange(*pair) for pair in rest)]
    return Conversation("ct_1", "VG.json, record 1 (ct_1)", tuple(exchanges))


def said(talks: list[Conversation]) -> list[tuple[str, str]]:
    return [(e.question, e.answer) for talk in talks for e in talk.exchanges]


@pytest.mark.parametrize(
    ("dialect", "numbers"),
    [
        pytest.param(QWEN3, "[100, 200, 500, 1000]", id="thousandths"),
        pytest.param(QWEN25, "[20, 20, 100, 100]", id="pixels-of-the-resized-picture"),
    ],
)
def test_where_becomes_the_products_own_question_and_answer(dialect, numbers):
    talk = a_talk((grounding_prompt("liver"), LIVER))
    there = dialect.presence_question("liver").text
    assert said(reworded(talk, dialect, [SHOWN])) == [
        (dialect.grounding_prompt("liver"), f'[{{"bbox_2d": {numbers}, "label": "liver"}}]'),
        (there, "Yes"),
    ]


def test_absence_is_an_empty_list_and_a_no():
    talk = a_talk((grounding_prompt("heart"), "The heart is not present in the image."))
    assert [answer for _, answer in said(reworded(talk, QWEN3, [SHOWN]))] == ["[]", "No"]


def test_every_answer_can_be_read_again():
    other = "<box>(7,200),(80,900)</box>"
    talk = a_talk((grounding_prompt("kidney"), f"<ref>kidney</ref>{BOX}{other}"))
    (_, answer), _ = said(reworded(talk, QWEN25, [SHOWN]))
    boxes = QWEN25.parse(answer, SHOWN, "kidney").boxes_norm
    assert len(boxes) == 2
    assert boxes[0] == (100, 200, 500, 1000)


@pytest.mark.parametrize("task", ["roc", "rc"])
def test_the_products_questions_about_a_box_are_its_own_here_too(task):
    box_norm = (100, 200, 500, 1000)
    talk = a_talk((referring_prompt(task, box_norm), "liver"))
    assert said(reworded(talk, QWEN25, [SHOWN])) == [
        (QWEN25.referring_prompt(task, box_norm, SHOWN), "liver")
    ]


def test_other_words_stay_and_their_boxes_are_rewritten():
    talk = a_talk(
        (f"Which object is in {BOX}, please?", "liver"),
        ("Anything abnormal?", f"Yes, a <ref>lesion</ref>{BOX} lies near the <ref>spleen</ref>."),
    )
    box = '{"bbox_2d": [100, 200, 500, 1000]}'
    assert said(reworded(talk, QWEN3, [SHOWN])) == [
        (f"Which object is in {box}, please?", "liver"),
        ("Anything abnormal?", f"Yes, a lesion {box} lies near the spleen."),
    ]


@pytest.mark.parametrize(
    ("question", "answer", "label"),
    [
        pytest.param("Where is the <ref>liver</ref>?", LIVER, "liver", id="named"),
        pytest.param("Mark the liver.", LIVER, "liver", id="typed-without-marks"),
        pytest.param("Mark the kidney.", LIVER.replace("liver", "kidney"), "kidney", id="other"),
        pytest.param(
            "Where is the liver?",
            f"<ref>liver</ref> is located at the coordinates {BOX}.",
            "liver",
            id="released-wording",
        ),
        pytest.param("Any finding?", LIVER, None, id="not-named-in-the-question"),
        pytest.param(f"Is the liver in {BOX}?", LIVER, None, id="a-box-in-the-question"),
        pytest.param(
            "Where are liver and spleen?", LIVER + f"<ref>spleen</ref>{BOX}", None, id="two"
        ),
        pytest.param("Where is the liver?", "On the left.", None, id="words"),
        pytest.param(
            "Where is the liver and what of it?",
            f"{LIVER}, and its margins are sharp, its size is normal and no focal lesion is seen.",
            None,
            id="more-than-a-place",
        ),
    ],
)
def test_only_the_place_of_one_object_counts_as_a_place(question, answer, label):
    found = place_of(Exchange(question, answer))
    assert (found and found.label) == label


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        pytest.param(("Where is the liver?", "<box>(1,2)</box>"), "malformed box", id="corners"),
        pytest.param(
            ("What is in <box>(5,5),(5,9)</box>?", "liver"), "empty or has swapped", id="empty"
        ),
        pytest.param(("What is it?", "A CT.<|im_end|>"), "control token", id="control-token"),
        pytest.param(
            ("Where is the <ref><think></ref>?", f"<ref><think></ref>{BOX}"),
            "control token",
            id="in-a-label",
        ),
    ],
)
def test_what_cannot_be_said_is_named_with_its_record(pair, words):
    with pytest.raises(BirdError, match=rf"VG\.json, record 1 \(ct_1\): .*{words}"):
        reworded(a_talk(pair), QWEN3, [SHOWN])


def test_a_box_lies_in_the_picture_that_was_shown_last():
    second = Exchange("Now?", BOX, (Path("b.png"),))
    talk = a_talk(("What is it?", "A CT."))
    both = Conversation("ct_1", "x", (*talk.exchanges, second))
    wide = ShownPicture(10, 10, input_width=2000, input_height=100)
    (result,) = reworded(both, QWEN25, [SHOWN, wide])
    assert result.exchanges[1].answer == '{"bbox_2d": [200, 20, 1000, 100]}'
    assert result.exchanges[1].pictures == (Path("b.png"),)


MESSAGES = [
    {"role": "user", "content": "a?"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c?"},
    {"role": "assistant", "content": "dd"},
]


def plain(messages, asking: bool) -> str:
    said = "".join(f"<{m['role'][0]}>{m['content']}<end>\n" for m in messages)
    return said + ("<a>" if asking else "")


def test_answers_stand_where_the_template_put_them():
    chat, spans = chat_and_answers(MESSAGES, plain)
    assert chat == plain(MESSAGES, False)
    assert [chat[first:end] for first, end in spans] == ["b<end>", "dd<end>"]


@pytest.mark.parametrize(
    "render",
    [
        pytest.param(lambda m, asking: plain(m, asking) + "<think>" * asking, id="thinks-first"),
        pytest.param(lambda m, asking: plain(m, asking).upper(), id="changes-answers"),
        pytest.param(lambda m, asking: plain(m[-2:], asking), id="forgets"),
    ],
)
def test_templates_that_do_more_are_refused(render):
    with pytest.raises(BirdError, match="take the family's instruct model"):
        chat_and_answers(MESSAGES, render)
