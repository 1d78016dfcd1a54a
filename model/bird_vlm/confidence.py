"""How sure a model was of the tokens that it wrote.

Knows tokens and probabilities; knows nothing about boxes or pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

_NEAR = 25  # numbers that differ by no more than this say the same; of 1000 on a side of a picture


def token_probabilities(
    logits: torch.Tensor, tokens: torch.Tensor, number_ids: Sequence[int]
) -> torch.Tensor:
    """(batch, steps, vocabulary) logits and (batch, steps) tokens -> (batch, steps) in 0..1.

    `number_ids` are the tokens of 0, 1, 2, ... where each coordinate is one token. A number then
    has the probability of all numbers close to it: 412 is right where 410 is.
    """
    shares = logits.float().softmax(-1)
    chosen = shares.gather(-1, tokens[..., None])[..., 0]
    if not number_ids:
        return chosen
    ids = torch.tensor(number_ids, device=tokens.device)
    up_to = torch.nn.functional.pad(shares[..., ids].cumsum(-1), (1, 0))  # of all numbers below
    written = tokens[..., None] == ids  # (batch, steps, numbers)
    value = written.long().argmax(-1, keepdim=True)
    low, high = (value - _NEAR).clamp(min=0), (value + _NEAR + 1).clamp(max=len(ids))
    near = (up_to.gather(-1, high) - up_to.gather(-1, low))[..., 0]
    return torch.where(written.any(-1), near, chosen)


def geometric_mean(probabilities: Sequence[float]) -> float:
    """0..1; 0 where there are none."""
    return float(np.exp(np.mean(np.log(np.maximum(probabilities, 1e-9))))) if probabilities else 0.0
