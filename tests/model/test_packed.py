"""Questions side by side in a row get the logits that each would get alone."""

from __future__ import annotations

import pytest
import torch

from bird_vlm.memory import read_pictures
from bird_vlm.packed import PackedDecoder, visible
from tiny_bird import IMAGE_TOKEN, QUERIES

PREFIX = [1, 2, *[IMAGE_TOKEN] * QUERIES, 3]
QUESTIONS = [[4, 5, 6], [7], [8, 9]]
PAD = 0


@pytest.fixture
def two_features(a_bird, two_images) -> torch.Tensor:
    with torch.inference_mode():
        return a_bird.get_image_features(two_images)


@torch.inference_mode()
def alone(bird, features: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """Logits behind one sequence about one picture."""
    ids = torch.tensor([PREFIX + tokens])
    return bird(input_ids=ids, image_embeds=features[None], use_cache=False).logits[0, -1]


@torch.inference_mode()
def begun(bird, features: torch.Tensor) -> tuple[PackedDecoder, torch.Tensor]:
    decoder = PackedDecoder(bird, PAD, read_pictures(bird, features, PREFIX))
    return decoder, decoder.begin(QUESTIONS)


def test_questions_are_blind_to_each_other(a_bird, two_features):
    _, logits = begun(a_bird, two_features)
    assert logits.shape == (2, 3, 64)
    for row, features in enumerate(two_features):
        for column, question in enumerate(QUESTIONS):
            torch.testing.assert_close(
                logits[row, column], alone(a_bird, features, question), atol=1e-4, rtol=1e-4
            )


@torch.inference_mode()
def test_answers_go_on_in_their_own_time(a_bird, two_features):
    """Of uneven length, some ended, and of a row that others left."""
    decoder, _ = begun(a_bird, two_features)
    written: dict[tuple[int, int], list[int]] = {}
    for added in (
        {(0, 0): [10, 11], (0, 2): [12], (1, 1): [13, 14, 15]},
        {(0, 2): [16, 17], (1, 1): [18]},
        {(1, 1): [19, 20]},
    ):
        decoder.keep(sorted({row for row, _ in added}))
        logits = decoder.extend(added)
        for (row, question), tokens in added.items():
            written.setdefault((row, question), []).extend(tokens)
        for found, (row, question) in zip(logits, added, strict=True):
            tokens = QUESTIONS[question] + written[row, question]
            torch.testing.assert_close(
                found, alone(a_bird, two_features[row], tokens), atol=1e-4, rtol=1e-4
            )


def test_what_is_visible():
    """Two questions behind a shared token; the second goes on, beside padding."""
    keys = torch.tensor([[0, 1, 1, 2, -1, 2]])
    assert visible(keys[:, -2:], keys)[0, 0].tolist() == [
        [True, False, False, False, False, False],  # padding sees what is shared
        [True, False, False, True, False, True],
    ]
