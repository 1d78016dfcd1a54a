"""Drawing the decoder's attention towards boxes."""

from __future__ import annotations

import pytest
import torch

from bird_training.pretraining.pointing import Pointing, cover_of_cells


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        pytest.param((0.0, 0.0, 1.0, 1.0), dict.fromkeys(range(16), 1 / 16), id="whole picture"),
        pytest.param((0.25, 0.0, 0.5, 0.25), {1: 1.0}, id="second cell of the first row"),
        pytest.param((0.0, 0.75, 0.25, 1.0), {12: 1.0}, id="first cell of the last row"),
        pytest.param((0.25, 0.25, 0.75, 0.375), {5: 0.5, 6: 0.5}, id="two cells by half"),
    ],
)
def test_cover_of_cells(box, cells):
    cover = cover_of_cells(torch.tensor([box]), side=4)[0]
    expected = torch.zeros(16)
    for cell, share in cells.items():
        expected[cell] = share
    torch.testing.assert_close(cover, expected)


@pytest.fixture
def a_question(a_bird):
    """Ids of one picture's tokens and six more, and the features that go in their place."""
    torch.manual_seed(0)
    vision = a_bird.config.vision_config
    ids = torch.full((2, vision.num_queries + 6), 5)
    ids[:, 2 : 2 + vision.num_queries] = a_bird.config.image_token_id
    features = torch.randn(2, vision.num_queries, vision.output_dim)
    return ids, features


def test_training_on_it_moves_the_attention_into_the_box(a_bird, a_question):
    ids, features = a_question
    speaking = torch.zeros_like(ids, dtype=torch.bool)
    speaking[:, -1] = True
    boxes = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.6, 0.6, 1.0, 1.0]])
    pointing = Pointing(a_bird)
    optimizer = torch.optim.Adam(a_bird.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        with pointing.listening():
            a_bird(input_ids=ids, image_embeds=features)
        loss = pointing.loss(ids, speaking, boxes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


def test_nothing_to_point_at_costs_nothing(a_bird, a_question):
    ids, _ = a_question
    nowhere = torch.zeros_like(ids, dtype=torch.bool)
    assert Pointing(a_bird).loss(ids, nowhere, torch.zeros(0, 4)) == 0
