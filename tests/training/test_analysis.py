"""Questions about the whole picture and captions: what they claim is what is annotated."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.facts import PlacedObject
from bird_training.writers.analysis import analyses
from bird_training.writers.captions import write_caption
from bird_training.writers.dialogues import grounding_turn, naming_turn
from bird_training.writers.wording import GROUNDING, NAMING, draw, number_in_words, place_in_words
from bird_vlm.boxes import NORM_MAX
from bird_vlm.grammar import format_box
from bird_vlm.prompts import grounding_prompt

SPANS = (
    st.tuples(st.integers(0, NORM_MAX), st.integers(0, NORM_MAX))
    .filter(lambda pair: pair[0] != pair[1])
    .map(sorted)
)
BOXES = st.builds(lambda x, y: (x[0], y[0], x[1], y[1]), SPANS, SPANS)
LABELS = st.sampled_from(["liver", "left kidney", "right kidney", "edema"])
OBJECTS = st.lists(st.builds(PlacedObject, LABELS, BOXES), min_size=1, max_size=6)
LIVER = PlacedObject("liver", (52, 180, 611, 790))
AORTA = PlacedObject("aorta", (480, 500, 530, 560))
SPLEEN = PlacedObject("spleen", (700, 200, 900, 500))
EDEMAS = [PlacedObject("edema", (10, 10, 60, 60)), PlacedObject("edema", (800, 800, 900, 900))]


def answers(objects, **known) -> dict[str, str]:
    turns = analyses("mr", "abdomen", objects, **known)
    return {topic: turn.answer for topic, turn in turns.items()}


def test_each_topic_is_answered_from_the_annotation():
    told = answers([LIVER, SPLEEN, AORTA, *EDEMAS], plane="coronal", absent=["polyp"])
    assert told == {
        "kind": "This is a coronal MR image of the abdomen.",
        "seen": "The image shows the aorta, the edema, the liver and the spleen.",
        "modality": "The modality is MR.",
        "region": "The image shows the abdomen.",
        "plane": "This is a coronal slice.",
        "present": "Yes, the aorta is visible.",
        "absent": "No, there is no polyp in this image.",
        "count": "There are two areas of edema.",
        "place": "The aorta lies in the centre of the image.",
        "larger": "The liver is larger than the aorta.",
        "side": "The aorta lies to the left of the spleen.",
        "report": "This is a coronal MR image of the abdomen. It shows the liver in the left part, "
        "the spleen in the right part and two areas of edema. It also shows the aorta.",
    }


@pytest.mark.parametrize(
    ("objects", "known", "topics"),
    [
        pytest.param([], {}, {"kind", "seen", "modality", "region", "report"}, id="empty"),
        pytest.param([], {"absent": ["polyp"]}, {"absent"}, id="only-absent"),
        pytest.param([LIVER], {}, {"present", "count", "place"}, id="one"),
        pytest.param([LIVER, LIVER], {}, {"present", "count"}, id="two-of-one"),
        pytest.param([LIVER, AORTA], {}, {"present", "count", "place", "larger"}, id="nested"),
    ],
)
def test_a_question_without_an_answer_is_not_asked(objects, known, topics):
    always = {"kind", "seen", "modality", "region", "report"}
    assert set(answers(objects, **known)) == always | topics


def test_the_larger_object_is_the_one_with_the_larger_mask():
    thin = PlacedObject("aorta", (0, 0, 800, 800), area_norm=9_000)  # a bow in a large box
    full = PlacedObject("liver", (100, 100, 300, 300), area_norm=36_000)
    assert answers([thin, full])["larger"] == "The liver is larger than the aorta."
    nearly = PlacedObject("spleen", (0, 0, 900, 900), area_norm=30_000)
    assert "larger" not in answers([full, nearly])


def test_a_mask_of_several_areas_is_not_counted():
    torn = PlacedObject("liver", (0, 0, 500, 500), area_norm=9_000, parts=2)
    assert "count" not in answers([torn])
    assert answers([torn, *EDEMAS])["count"] == "There are two areas of edema."
    assert "count" not in answers([torn, PlacedObject("liver", (600, 600, 700, 700))])


def test_an_unknown_region_is_not_spoken_of():
    turns = analyses("mr", "", [LIVER])
    assert "region" not in turns
    assert turns["kind"].answer == "This is an MR image."


@given(OBJECTS, st.integers(0, 2**32))
def test_comparisons_hold(objects, seed):
    turns = analyses("ct", "abdomen", objects, rng=random.Random(seed))
    boxes = {o.label: o.box_norm for o in objects}

    def first_and_second(text: str) -> list[str]:
        named = {label: text.find(label) for label in boxes if label in text}
        return sorted(named, key=named.get)

    if "larger" in turns:
        answer = turns["larger"].answer
        pair = first_and_second(answer)
        larger, smaller = pair[::-1] if " is smaller than " in answer else pair
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[larger], boxes[smaller])]
        assert areas[0] >= 1.5 * areas[1]
    if "side" in turns:
        answer = turns["side"].answer
        pair = first_and_second(answer)
        left, right = pair[::-1] if " right of " in answer else pair
        assert boxes[left][2] <= boxes[right][0]
    if "place" in turns:
        (label,) = first_and_second(turns["place"].question)
        assert place_in_words(boxes[label]) in turns["place"].answer


@given(OBJECTS, st.integers(0, 2**32))
def test_counts_and_captions_name_what_is_there(objects, seed):
    turns = analyses("ct", "abdomen", objects, rng=random.Random(seed))
    counts = Counter(o.label for o in objects)
    answer = turns["count"].answer
    (label,) = [name for name in counts if name in answer]
    assert f" {number_in_words(counts[label])} area" in answer
    caption = write_caption("ct", "abdomen", objects, rng=random.Random(seed))
    assert all(name in caption for name in counts)
    assert not [name for name in ("liver", "edema") if name in caption and name not in counts]


def test_half_of_the_questions_are_the_products_own_and_the_others_are_all_used():
    rng = random.Random(0)
    asked = Counter(grounding_turn("liver", [LIVER], rng).question for _ in range(4000))
    assert 0.46 < asked[grounding_prompt("liver")] / 4000 < 0.54
    for sentence in GROUNDING:
        marked = sentence.format(words="<ref>liver</ref>")
        assert asked[marked] > 50
        assert asked[sentence.format(words="liver")] > 50
    assert (
        asked[grounding_prompt("liver")]
        + sum(
            asked[sentence.format(words=words)]
            for sentence in GROUNDING
            for words in ("liver", "<ref>liver</ref>")
        )
        == 4000
    )


def test_every_naming_question_holds_the_box_once():
    rng = random.Random(0)
    asked = {naming_turn(LIVER, rng).question for _ in range(500)}
    assert len(asked) == len(NAMING) + 1
    assert all(question.count(format_box(LIVER.box_norm)) == 1 for question in asked)


def test_without_chance_the_first_sentence_is_taken():
    assert draw(("plain", "other"), None) == "plain"
    assert draw(("plain",), random.Random(0)) == "plain"
