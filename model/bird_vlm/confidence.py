"""How sure a model was of the tokens that it wrote.

Knows tokens and probabilities; knows nothing about boxes or pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

_NEAR = 0.025  # numbers that differ by no more than this share of a picture's side say the same


def token_probabilities(
    logits: torch.Tensor, tokens: torch.Tensor, number_ids: Sequence[int]
) -> torch.Tensor:
    """(batch, steps, vocabulary) logits and (batch, steps) tokens -> (batch, steps) in 0..1.

    `number_ids` are the tokens of 0, 1, 2, ... up to the whole side of a picture, where each
    coordinate is one token. A number then has the probability of all numbers close to it: of 1000,
    412 is right where 410 is.
    """
    shares = logits.float().softmax(-1)
    chosen = shares.gather(-1, tokens[..., None])[..., 0]
    if not number_ids:
        return chosen
    ids = torch.tensor(number_ids, device=tokens.device)
    up_to = torch.nn.functional.pad(shares[..., ids].cumsum(-1), (1, 0))  # of all numbers below
    written = tokens[..., None] == ids  # (batch, steps, numbers)
    value = written.long().argmax(-1, keepdim=True)
    near = round(_NEAR * (len(ids) - 1))
    low, high = (value - near).clamp(min=0), (value + near + 1).clamp(max=len(ids))
    together = (up_to.gather(-1, high) - up_to.gather(-1, low))[..., 0]
    return torch.where(written.any(-1), together, chosen)


def geometric_mean(probabilities: Sequence[float]) -> float:
    """0..1; 0 where there are none."""
    return float(np.exp(np.mean(np.log(np.maximum(probabilities, 1e-9))))) if probabilities else 0.0
