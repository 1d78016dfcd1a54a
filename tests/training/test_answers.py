"""The loss of written answers: coordinates forgive a near miss, words do not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bird_training.packing import IGNORED
from bird_training.pretraining.answers import (
    AnswerLoss,
    answered,
    first_answered,
    spread_numbers,
)
from bird_vlm.boxes import NORM_MAX
from bird_vlm.tokenization_bird import train_small_tokenizer

TEXTS = ["Where is the liver?", "<ref>liver</ref><box>(1,2),(3,4)</box>", "3 areas"] * 3


@pytest.fixture(scope="module")
def numbers():
    return train_small_tokenizer(TEXTS, vocab_size=330, numbers=NORM_MAX + 1)


@pytest.fixture(scope="module")
def digits():
    return train_small_tokenizer(TEXTS, vocab_size=330)


BOX = torch.tensor([[0.4, 0.3, 0.8, 0.9]])
COORDINATES = ["400", "300", "800", "900"]
SIGNS = ["(", ",", "),(", ","]


def ids(tokenizer, tokens: list[str]) -> torch.Tensor:
    return torch.tensor(tokenizer.convert_tokens_to_ids(tokens))


def losses_of_writing(tokenizer, said: list[str], sure: float = 20.0) -> dict[str, float]:
    """Of a model that is sure of these numbers where BOX is right."""
    logits = torch.zeros(4, len(tokenizer))
    logits[range(4), ids(tokenizer, said)] = sure
    wanted, before = ids(tokenizer, COORDINATES), ids(tokenizer, SIGNS)
    losses = AnswerLoss(tokenizer)(logits, wanted, before, BOX)
    return {name: float(value) for name, value in losses.items()}


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("part", ["answers", "written"])
def test_a_number_nearly_right_is_better_than_one_far_off(numbers, place, part):
    def loss(change: int) -> float:
        said = [int(number) for number in COORDINATES]
        said[place] += change
        return losses_of_writing(numbers, [str(number) for number in said])[part]

    assert loss(0) < loss(10) < loss(90)


def test_a_small_box_asks_for_more_precision_than_a_large_one():
    large, small = spread_numbers(torch.tensor([[0.1, 0.1, 0.9, 0.2]]))[[0, 1]]
    assert float(large.sum()) == pytest.approx(1)
    assert int(large.argmax()) == int(small.argmax()) == 100
    assert (large > 1e-3).sum() > 2 * (small > 1e-3).sum() > 10


def test_what_is_written_is_read_as_a_mean(numbers):
    """Two peaks beside the number stand for the number between them."""
    logits = torch.full((4, len(numbers)), -50.0)
    for row, number in enumerate(map(int, COORDINATES)):
        logits[row, ids(numbers, [str(number - 30), str(number + 30)])] = 0
    wanted, before = ids(numbers, COORDINATES), ids(numbers, SIGNS)
    assert float(AnswerLoss(numbers)(logits, wanted, before, BOX)["written"]) < 1e-3


def test_a_number_in_a_sentence_is_a_word(numbers):
    logits = torch.randn(1, len(numbers), generator=torch.Generator().manual_seed(0))
    wanted, before = ids(numbers, ["3"]), ids(numbers, ["liver"])
    losses = AnswerLoss(numbers)(logits, wanted, before, torch.zeros(0, 4))
    assert losses.keys() == {"answers"}
    assert torch.equal(losses["answers"], F.cross_entropy(logits, wanted))


def test_digits_are_words(digits):
    logits = torch.randn(4, len(digits), generator=torch.Generator().manual_seed(0))
    wanted, before = ids(digits, list("4389")), ids(digits, SIGNS)
    losses = AnswerLoss(digits)(logits, wanted, before, BOX)
    assert losses.keys() == {"answers"}
    assert torch.equal(losses["answers"], F.cross_entropy(logits, wanted))


def test_coordinates_and_words_share_one_mean(numbers):
    logits = torch.randn(5, len(numbers), generator=torch.Generator().manual_seed(0))
    wanted, before = ids(numbers, [*COORDINATES, "</box>"]), ids(numbers, [*SIGNS, ")"])
    loss = AnswerLoss(numbers)
    box = loss(logits[:4], wanted[:4], before[:4], BOX)["answers"]
    word = F.cross_entropy(logits[4:], wanted[4:])
    together = loss(logits, wanted, before, BOX)["answers"]
    torch.testing.assert_close(together, (4 * box + word) / 5)


def test_places_of_answers_and_of_their_first_tokens():
    labels = torch.tensor([[IGNORED, IGNORED, 7, 8, IGNORED, 9, IGNORED]])
    assert answered(labels).tolist() == [[False, True, True, False, True, False]]
    assert first_answered(labels).tolist() == [[False, True, False, False, True, False]]
