"""Answers as choices: whatever a model chooses is in the language of boxes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bird_vlm.boxes import NORM_MAX
from bird_vlm.frames import AnswerTokens, BoxGrammar, Writing
from bird_vlm.grammar import format_present, parse_grounding

VOCABULARIES = ["a_small_tokenizer", "a_tokenizer_of_numbers"]


@pytest.fixture(params=VOCABULARIES, ids=["digits", "whole numbers"])
def words(request) -> AnswerTokens:
    return AnswerTokens(request.getfixturevalue(request.param))


def write(words: AnswerTokens, text: str, most: int = 4) -> Writing:
    """Chooses so that `text` comes out; what is not a choice must follow by itself."""
    wanted = words.ids(text)
    writing = Writing(words, "liver", most)
    while not writing.done:
        following = len(writing.tokens)
        token = wanted[following] if following < len(wanted) else words.end
        assert token in writing.choices, (words.tokenizer.decode(writing.tokens), token)
        writing.choose(token, 0.5)
    return writing


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param(((52, 180, 611, 790),), id="one"),
        pytest.param(((0, 0, 1000, 1000),), id="the whole picture"),
        pytest.param(((0, 5, 1, 10), (999, 999, 1000, 1000)), id="two tiny ones"),
        pytest.param(((9, 99, 10, 100), (1, 2, 30, 400), (5, 6, 7, 8)), id="three"),
    ],
)
def test_every_box_can_be_written(words, boxes):
    text = format_present("liver", boxes)
    writing = write(words, text)
    assert words.tokenizer.decode(writing.tokens) == text
    assert writing.boxes_norm == boxes
    assert writing.scores == pytest.approx([0.5] * len(boxes))


def test_what_is_known_is_fed_and_never_chosen(words):
    writing = Writing(words, "liver", 1)
    assert words.tokenizer.decode(writing.pending) == "<ref>liver</ref><box>("
    asked = 0
    while not writing.done:
        asked += 1
        writing.choose(writing.choices[0], 1.0)
    assert asked == 4 if words.whole else asked > 4


def test_the_last_allowed_box_ends_the_answer(words):
    writing = write(words, format_present("liver", ((1, 2, 3, 4), (5, 6, 7, 8))), most=2)
    assert len(writing.boxes_norm) == 2
    assert writing.pending == []


@settings(deadline=None)
@given(data=st.data(), vocabulary=st.sampled_from(VOCABULARIES))
def test_any_choices_make_an_answer_that_can_be_read(request, data, vocabulary):
    words = AnswerTokens(request.getfixturevalue(vocabulary))
    writing, fed = Writing(words, "right kidney", 3), []
    while not writing.done:
        fed += writing.pending
        choices = writing.choices
        assert len(choices) > 1
        token = choices[data.draw(st.integers(0, len(choices) - 1))]
        writing.choose(token, 1.0)
    found = parse_grounding(words.tokenizer.decode(writing.tokens))
    assert found.label == "right kidney"
    assert found.boxes_norm == writing.boxes_norm
    assert 1 <= len(found.boxes_norm) <= 3
    assert all(0 <= n <= NORM_MAX for box in found.boxes_norm for n in box)
    assert writing.tokens[: len(fed)] == fed


def test_free_text_is_free_and_its_boxes_are_well_formed(words):
    prompt = words.ids("Where is the liver?")
    grammar = BoxGrammar(words, len(prompt))
    torch.manual_seed(0)
    size = len(words.tokenizer)
    said = words.ids("It is here <box>")
    for _ in range(40):
        free = torch.randn(1, size)
        said.append(int(grammar(torch.tensor([prompt + said]), free.clone()).argmax()))
        if said[-1] == words.box_end:
            break
    text = words.tokenizer.decode(said)
    assert len(parse_grounding(text).boxes_norm) == 1
    assert torch.equal(grammar(torch.tensor([prompt + said]), free.clone()), free)
