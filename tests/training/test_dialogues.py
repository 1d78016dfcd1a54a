"""Questions and answers: what is asked, what is answered, and that answers read back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.writers.dialogues import (
    PlacedObject,
    analysis_turns,
    describing_turn,
    grounding_turn,
    may_drop_side,
    naming_turn,
    place_in_words,
    write_turns,
)
from bird_vlm.boxes import NORM_MAX
from bird_vlm.grammar import MAX_BOXES, format_box, parse_grounding
from bird_vlm.labels import without_side
from bird_vlm.prompts import grounding_prompt, referring_prompt

SPANS = (
    st.tuples(st.integers(0, NORM_MAX), st.integers(0, NORM_MAX))
    .filter(lambda pair: pair[0] != pair[1])
    .map(sorted)
)
BOXES = st.builds(lambda x, y: (x[0], y[0], x[1], y[1]), SPANS, SPANS)
LABELS = st.sampled_from(["liver", "left kidney", "right kidney", "left lobe of the liver"])
OBJECTS = st.lists(st.builds(PlacedObject, LABELS, BOXES), max_size=8)
LIVER = PlacedObject("liver", (52, 180, 611, 790))
LEFT_KIDNEY = PlacedObject("left kidney", (700, 500, 800, 640))
RIGHT_KIDNEY = PlacedObject("right kidney", (200, 520, 300, 650))
KIDNEYS = (LEFT_KIDNEY, RIGHT_KIDNEY)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


@given(OBJECTS, LABELS)
def test_a_grounding_answer_reads_back_as_the_largest_boxes_of_its_object(objects, label):
    turn = grounding_turn(label, objects)
    given_boxes = [o.box_norm for o in objects if o.label == label]
    answered = parse_grounding(turn.answer)
    assert turn.question == grounding_prompt(label)
    assert answered.label == label
    assert list(answered.boxes_norm) == sorted(answered.boxes_norm)
    assert (
        sorted(map(area, answered.boxes_norm), reverse=True)
        == sorted(map(area, given_boxes), reverse=True)[:MAX_BOXES]
    )
    assert set(answered.boxes_norm) <= set(given_boxes)


@given(OBJECTS, st.sampled_from(["spleen", "pancreas"]))
def test_an_absent_object_reads_back_as_no_boxes(objects, label):
    answered = parse_grounding(grounding_turn(label, objects).answer)
    assert (answered.label, answered.boxes_norm) == (label, ())


def test_a_label_without_its_side_finds_both_sides_from_left_to_right():
    answered = parse_grounding(grounding_turn("kidney", [LIVER, *KIDNEYS]).answer)
    assert answered.boxes_norm == (RIGHT_KIDNEY.box_norm, LEFT_KIDNEY.box_norm)


@pytest.mark.parametrize(
    ("label", "boxes"),
    [
        pytest.param("left kidney", (LEFT_KIDNEY.box_norm,), id="one-side"),
        pytest.param("kidney", (LEFT_KIDNEY.box_norm, RIGHT_KIDNEY.box_norm), id="both-sides"),
        pytest.param("kidne", (), id="part-of-a-word"),
        pytest.param("left", (), id="side-alone"),
    ],
)
def test_only_the_asked_object_is_answered(label, boxes):
    answered = parse_grounding(grounding_turn(label, [LIVER, *KIDNEYS]).answer)
    assert set(answered.boxes_norm) == set(boxes)


@given(OBJECTS, st.integers(1, 12), st.integers(0, 2**32))
def test_at_most_the_asked_number_of_turns_and_no_answer_contradicts_the_picture(
    objects, count, seed
):
    absent = ["spleen", "pancreas"]
    turns = write_turns("ct", "abdomen", objects, absent, random.Random(seed), count)
    shown = {o.label for o in objects}
    askable = dict.fromkeys(shown | {without_side(label) for label in shown}, True)
    askable |= dict.fromkeys(absent, False)
    assert 0 < len(turns) <= count
    for turn in turns:
        if turn.task == "VG":
            answered = parse_grounding(turn.answer)
            assert bool(answered.boxes_norm) == askable[answered.label]
        elif turn.task == "ROC":
            assert turn.answer in {
                o.label for o in objects if format_box(o.box_norm) in turn.question
            }


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_turns_hang_on_the_seed_alone(count, seed):
    first, again = (
        write_turns("ct", "abdomen", [LIVER, *KIDNEYS], ["spleen"], random.Random(seed), count)
        for _ in range(2)
    )
    assert first == again


def test_every_question_is_asked_when_there_is_room_and_none_twice_of_one_grounding():
    turns = write_turns("ct", "abdomen", [LIVER, *KIDNEYS], ["spleen"], random.Random(0), 99)
    grounded = [parse_grounding(turn.answer).label for turn in turns if turn.task == "VG"]
    assert sorted(grounded) == ["kidney", "left kidney", "liver", "right kidney", "spleen"]
    assert {turn.task for turn in turns} == {"VG", "ROC", "RC", "MIA"}


def test_a_picture_with_nothing_on_it_still_gets_questions():
    turns = write_turns("mr", "brain", [], ["brain tumor"], random.Random(0), 8)
    assert {turn.task for turn in turns} == {"VG", "MIA"}
    assert [parse_grounding(t.answer).boxes_norm for t in turns if t.task == "VG"] == [()]


def test_about_half_of_the_questions_ground_and_a_third_of_those_ask_for_absent_objects():
    rng = random.Random(0)
    drawn = [
        turn
        for _ in range(500)
        for turn in write_turns("ct", "abdomen", [LIVER, *KIDNEYS], ["spleen", "aorta"], rng, 4)
    ]
    grounding = [turn for turn in drawn if turn.task == "VG"]
    refused = [turn for turn in grounding if not parse_grounding(turn.answer).boxes_norm]
    assert 0.65 < len(grounding) / len(drawn) < 0.85
    assert 0.25 < len(refused) / len(grounding) < 0.42


def test_naming_gives_the_label_of_the_asked_box():
    turn = naming_turn(LEFT_KIDNEY)
    assert (turn.task, turn.answer) == ("ROC", "left kidney")
    assert turn.question == referring_prompt("roc", LEFT_KIDNEY.box_norm)
    assert "(700,500),(800,640)" in turn.question


def test_describing_tells_object_place_and_modality():
    turn = describing_turn(PlacedObject("polyp", (10, 700, 200, 900)), "endoscopy")
    assert turn.task == "RC"
    assert turn.question == referring_prompt("rc", (10, 700, 200, 900))
    for words in ("the polyp", "lower left part", "endoscopy image"):
        assert words in turn.answer


@pytest.mark.parametrize(
    ("box", "place"),
    [
        pytest.param((0, 0, 100, 100), "upper left part", id="corner"),
        pytest.param((900, 900, 1000, 1000), "lower right part", id="opposite-corner"),
        pytest.param((0, 0, 1000, 1000), "centre", id="whole-picture"),
        pytest.param((450, 0, 550, 100), "upper part", id="top"),
        pytest.param((900, 450, 1000, 550), "right part", id="picture-right"),
    ],
)
def test_places_are_told_in_thirds_of_the_picture(box, place):
    assert place_in_words(box) == place


def test_analysis_tells_modality_region_and_what_is_seen():
    kind, seen, *_ = analysis_turns("x", "chest", [*KIDNEYS, LIVER, LIVER])
    assert (kind.task, seen.task) == ("MIA", "MIA")
    assert kind.answer == "This is an X-ray image of the chest."
    assert seen.answer == "The image shows the left kidney, the liver and the right kidney."


@pytest.mark.parametrize(
    ("objects", "answer"),
    [
        pytest.param([], "Nothing abnormal is marked.", id="none"),
        pytest.param([LIVER], "The image shows the liver.", id="one"),
        pytest.param(KIDNEYS, "The image shows the left kidney and the right kidney.", id="two"),
    ],
)
def test_what_is_seen_is_told_in_a_sentence(objects, answer):
    assert analysis_turns("ct", "abdomen", objects)[1].answer == answer


@pytest.mark.parametrize(
    ("present", "absent", "may"),
    [
        pytest.param({"left kidney", "right kidney"}, (), True, id="both-shown"),
        pytest.param({"left kidney"}, ("right kidney",), True, id="other-side-absent"),
        pytest.param({"left kidney"}, ("liver",), False, id="other-side-unknown"),
    ],
)
def test_the_side_is_dropped_only_where_both_sides_are_known(present, absent, may):
    """A data set that annotates the left atrium alone does not tell where the atria are."""
    assert may_drop_side("left kidney", present, absent) is may
    assert not may_drop_side("liver", present, absent)


def test_an_atrium_without_its_other_side_is_never_asked_for_without_a_side():
    objects = [PlacedObject("left atrium", (10, 20, 300, 400))]
    for seed in range(30):
        turns = write_turns("mr", "heart", objects, ["liver"], random.Random(seed), 12)
        asked = {turn.answer for turn in turns if turn.task == "VG"}
        assert not any("<ref>atrium</ref>" in answer for answer in asked)
