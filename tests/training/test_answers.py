"""The loss of written answers: coordinates forgive a near miss, words do not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bird_training.packing import IGNORED
from bird_training.pretraining.answers import AnswerLoss, answered, first_answered
from bird_vlm.boxes import NORM_MAX
from bird_vlm.tokenization_bird import train_small_tokenizer

TEXTS = ["Where is the liver?", "<ref>liver</ref><box>(1,2),(3,4)</box>", "3 areas"] * 3


@pytest.fixture(scope="module")
def numbers():
    return train_small_tokenizer(TEXTS, vocab_size=330, numbers=NORM_MAX + 1)


@pytest.fixture(scope="module")
def digits():
    return train_small_tokenizer(TEXTS, vocab_size=330)


def loss_of_writing(tokenizer, said: str, wanted: str, before: str) -> float:
    """Of a model that is sure of `said` where `wanted` would be right, behind `before`."""
    logits = torch.zeros(1, len(tokenizer))
    logits[0, tokenizer.convert_tokens_to_ids(said)] = 5
    ids = [torch.tensor([tokenizer.convert_tokens_to_ids(token)]) for token in (wanted, before)]
    return float(AnswerLoss(tokenizer)(logits, *ids))


@pytest.mark.parametrize("before", ["(", ",", "),("])
def test_a_coordinate_nearly_right_is_better_than_one_far_off(numbers, before):
    right, near, far = (loss_of_writing(numbers, n, "400", before) for n in ("400", "405", "600"))
    assert right < near < far
    assert far == pytest.approx(loss_of_writing(numbers, "800", "400", before), abs=1e-4)


def test_a_number_in_a_sentence_is_a_word(numbers):
    near, far = (loss_of_writing(numbers, n, "3", "liver") for n in ("4", "600"))
    assert near == pytest.approx(far)


def test_digits_are_words(digits):
    logits = torch.randn(6, len(digits), generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor(digits.convert_tokens_to_ids(list("123456")))
    before = torch.tensor(digits.convert_tokens_to_ids(list("(,(,(,")))
    assert torch.equal(AnswerLoss(digits)(logits, wanted, before), F.cross_entropy(logits, wanted))


def test_coordinates_and_words_share_one_mean(numbers):
    logits = torch.randn(2, len(numbers), generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor(numbers.convert_tokens_to_ids(["400", "<ref>"]))
    before = torch.tensor(numbers.convert_tokens_to_ids(["(", "<ref>"]))
    loss = AnswerLoss(numbers)
    apart = [loss(logits[i : i + 1], wanted[i : i + 1], before[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(loss(logits, wanted, before), torch.stack(apart).mean())


def test_places_of_answers_and_of_their_first_tokens():
    labels = torch.tensor([[IGNORED, IGNORED, 7, 8, IGNORED, 9, IGNORED]])
    assert answered(labels).tolist() == [[False, True, True, False, True, False]]
    assert first_answered(labels).tolist() == [[False, True, False, False, True, False]]
