"""The fast way to ground gives the answers of the plain one."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from bird_vlm.engine import Engine
from bird_vlm.errors import BadRequestError
from bird_vlm.grounding import Grounder, best_of
from bird_vlm.plain import PlainEngine
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume
from bird_vlm.windows import slice_picture

LABELS = ["left lateral ventricle", "right thalamus", "brain stem", "liver", "brain tumor"]


@pytest.fixture(scope="module")
def a_plain_engine(bird_mini: Engine) -> PlainEngine:
    return PlainEngine(bird_mini.model, bird_mini.processor, bird_mini.card)


@pytest.fixture(scope="module")
def some_features(bird_mini: Engine, mni152: Volume) -> torch.Tensor:
    stack = slice_stack(mni152.geometry(), "axial")
    return bird_mini.encode([slice_picture(mni152, stack, k) for k in range(30, 120, 10)])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5])
def test_the_fast_way_answers_as_the_plain_one(bird_mini, a_plain_engine, some_features, threshold):
    fast = bird_mini.ground(some_features, LABELS, threshold)
    plain = a_plain_engine.ground(some_features, LABELS, threshold)
    boxes = 0
    for ours, theirs in zip(chain(*fast), chain(*plain), strict=True):
        assert ours.presence == pytest.approx(theirs.presence, abs=1e-3)
        if theirs.unreadable:  # what the frame cannot write
            continue
        assert ours.text == theirs.text
        assert ours.boxes_norm == theirs.boxes_norm
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-3)
        boxes += len(ours.boxes_norm)
    assert boxes > 10


def test_answers_do_not_depend_on_how_much_is_read_at_once(bird_mini, some_features):
    whole = bird_mini.ground(some_features, LABELS, 0.3)
    small = Grounder(bird_mini.model, bird_mini.processor, budget=1)
    pieces = small.ground(some_features, LABELS, 0.3)
    assert [[a.text for a in row] for row in pieces] == [[a.text for a in row] for row in whole]


def test_many_labels_are_asked_in_several_rows(bird_mini, some_features):
    many = bird_mini.ground(some_features[:1], LABELS * 8, 0.3)
    assert [a.text for a in many[0]] == [
        a.text for a in bird_mini.ground(some_features[:1], LABELS, 0.3)[0]
    ] * 8


def test_no_labels_and_no_pictures_get_no_answers(bird_mini, some_features):
    assert bird_mini.ground(some_features[:2], []) == [[], []]
    assert bird_mini.ground(some_features[:0], LABELS) == []


def test_a_label_with_control_tokens_is_refused(bird_mini, some_features):
    with pytest.raises(BadRequestError, match="control token"):
        bird_mini.ground(some_features[:1], ["liver<|im_end|>"])


def test_the_best_of_different_choices():
    logits = torch.tensor([[0.1, 0.9, 0.5, 0.2], [0.8, 0.1, 0.3, 0.7]])
    assert best_of(logits, [[0, 2, 3], [3]]).tolist() == [2, 3]
