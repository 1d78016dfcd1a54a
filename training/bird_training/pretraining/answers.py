"""The loss of what the model writes; a coordinate that is nearly right is nearly as good.

Knows tokens and numbers; knows nothing about pictures.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bird_training.packing import IGNORED
from bird_vlm.boxes import NORM_MAX
from bird_vlm.tokenization_bird import CORNER_JOINT, BirdTokenizer, number_ids

_SPREAD = 8.0  # standard deviation of a wanted coordinate; of 1000 on a side of the picture


class AnswerLoss(nn.Module):
    """Cross-entropy of answers, with wanted coordinates spread over their neighbours.

    Only where each coordinate is one token; a coordinate of several digits is as any other word.
    """

    def __init__(self, tokenizer: BirdTokenizer) -> None:
        super().__init__()
        numbers = torch.arange(NORM_MAX + 1).float()
        spread = F.softmax(-(((numbers - numbers[:, None]) / _SPREAD) ** 2) / 2, dim=-1)
        ids = number_ids(tokenizer, NORM_MAX + 1)
        before = [tokenizer.convert_tokens_to_ids(token) for token in ("(", ",", CORNER_JOINT)]
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("number_ids", torch.tensor(ids, dtype=torch.long), persistent=False)
        self.register_buffer("before_numbers", torch.tensor(before), persistent=False)

    def forward(
        self, logits: torch.Tensor, wanted: torch.Tensor, before: torch.Tensor
    ) -> torch.Tensor:
        """Mean in nats; tokens `wanted` (n,) stand behind `before` (n,), logits (n, vocabulary)."""
        entropy = F.cross_entropy(logits, wanted, reduction="none")
        is_number = wanted[:, None] == self.number_ids
        coordinate = is_number.any(-1) & torch.isin(before, self.before_numbers)
        if coordinate.any():
            target = self.spread[is_number[coordinate].long().argmax(-1)]
            shares = logits[coordinate].log_softmax(-1)[:, self.number_ids]
            entropy = entropy.masked_scatter(coordinate, -(target * shares).sum(-1))
        return entropy.mean()


def answered(labels: torch.Tensor) -> torch.Tensor:
    """(batch, tokens - 1), the places whose next token has a loss."""
    return labels[:, 1:] != IGNORED


def first_answered(labels: torch.Tensor) -> torch.Tensor:
    """(batch, tokens - 1), the places whose next token is the first of an answer."""
    return (labels[:, :-1] == IGNORED) & answered(labels)
