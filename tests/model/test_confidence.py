"""How sure a model was of a token: as it says, and for a coordinate with its neighbours."""

from __future__ import annotations

import pytest
import torch

from bird_vlm.confidence import geometric_mean, token_probabilities

NUMBERS = list(range(5, 86))  # tokens of 0..80; two more or less say the same
WORD = 2


def logits_of(shares: dict[int, float]) -> torch.Tensor:
    """One sequence of one step whose tokens have these probabilities; another word has the rest."""
    row = torch.full((110,), 1e-9)
    row[0] = 1 - sum(shares.values())
    row[list(shares)] = torch.tensor(list(shares.values()))
    return row.log()[None, None]


@pytest.mark.parametrize(
    ("shares", "token", "numbers", "expected"),
    [
        pytest.param({WORD: 0.7}, WORD, NUMBERS, 0.7, id="a word"),
        pytest.param({5: 0.7, 6: 0.2}, 5, [], 0.7, id="a digit"),
        pytest.param({45: 0.3, 46: 0.2, 47: 0.1}, 45, NUMBERS, 0.6, id="a number and those near"),
        pytest.param({45: 0.3, 43: 0.2, 48: 0.4}, 45, NUMBERS, 0.5, id="not those far off"),
        pytest.param({5: 0.5, 6: 0.3}, 5, NUMBERS, 0.8, id="the first number"),
        pytest.param({85: 0.5, 84: 0.3}, 85, NUMBERS, 0.8, id="the last number"),
        pytest.param({85: 0.5, 86: 0.3}, 85, NUMBERS, 0.5, id="beyond the last no number"),
    ],
)
def test_a_coordinate_counts_with_its_neighbours(shares, token, numbers, expected):
    found = token_probabilities(logits_of(shares), torch.tensor([[token]]), numbers)
    assert found.shape == (1, 1)
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_probabilities_of_many_sequences_stay_within_bounds():
    logits = torch.randn(3, 4, 110, generator=torch.Generator().manual_seed(0)) * 5
    tokens = logits.argmax(-1)
    found = token_probabilities(logits, tokens, NUMBERS)
    alone = token_probabilities(logits, tokens, [])
    assert found.shape == (3, 4)
    assert ((found >= alone - 1e-6) & (found <= 1 + 1e-6)).all()


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        pytest.param([0.5, 0.5], 0.5, id="equal"),
        pytest.param([0.25, 1.0], 0.5, id="one unsure"),
        pytest.param([], 0.0, id="none"),
        pytest.param([0.0, 1.0], 3.2e-5, id="one impossible"),
    ],
)
def test_the_geometric_mean(probabilities, expected):
    assert geometric_mean(probabilities) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("numbers", "near"),
    [
        pytest.param(1001, 25, id="thousandths"),
        pytest.param(1024, 26, id="1024 bins"),
        pytest.param(513, 13, id="512 bins"),
    ],
)
def test_close_is_a_share_of_the_side(numbers: int, near: int):
    logits = torch.zeros(1, 1, numbers + 1)  # all alike
    middle = torch.tensor([[numbers // 2]])
    found = token_probabilities(logits, middle, range(numbers))
    assert round(float(found) * (numbers + 1)) == 2 * near + 1
