"""The loss of what the model writes; a coordinate that is nearly right is nearly as good.

Knows tokens and numbers; knows nothing about pictures.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bird_training.packing import IGNORED
from bird_training.pretraining.dense import box_distance
from bird_vlm.boxes import NORM_MAX
from bird_vlm.tokenization_bird import CORNER_JOINT, BirdTokenizer, number_ids

_SPREAD = 0.05  # standard deviation of a wanted coordinate, as a share of the box's side
_LEAST_SPREAD = 4.0  # of 1000 on a side of the picture
_SOME_NUMBER = 4.0  # weight of being a number at all: each has a small share, any word may beat it


class AnswerLoss(nn.Module):
    """Cross-entropy of answers, with wanted coordinates spread over their neighbours.

    Only where each coordinate is one token; a coordinate of several digits is as any other word.
    """

    def __init__(self, tokenizer: BirdTokenizer) -> None:
        super().__init__()
        ids = number_ids(tokenizer, NORM_MAX + 1)
        before = [tokenizer.convert_tokens_to_ids(token) for token in ("(", ",", CORNER_JOINT)]
        self.register_buffer("number_ids", torch.tensor(ids, dtype=torch.long), persistent=False)
        self.register_buffer("before_numbers", torch.tensor(before), persistent=False)

    def forward(
        self, logits: torch.Tensor, wanted: torch.Tensor, before: torch.Tensor, boxes: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Mean loss in nats, and how far the written boxes are on average from `boxes`.

        Tokens `wanted` (n,) stand behind `before` (n,), logits (n, vocabulary); `boxes` (m, 4), x0,
        y0, x1, y1 in 0..1, are those of `wanted` in their order. A box is read as the mean of what
        may be written for each of its numbers: greedy decoding takes the peak, and this keeps the
        peak where a box read off the states would be.
        """
        entropy = F.cross_entropy(logits, wanted, reduction="none")
        coordinate = torch.isin(wanted, self.number_ids) & torch.isin(before, self.before_numbers)
        if not coordinate.any():
            return {"answers": entropy.mean()}
        shares = logits[coordinate][:, self.number_ids].log_softmax(-1)
        every = logits[coordinate].log_softmax(-1)[:, self.number_ids]
        spread = -(spread_numbers(boxes) * every).sum(-1) - _SOME_NUMBER * every.logsumexp(-1)
        entropy = entropy.masked_scatter(coordinate, spread)
        numbers = torch.linspace(0, 1, NORM_MAX + 1, device=logits.device)
        read = (shares.exp() @ numbers).unflatten(0, (-1, 4))
        return {"answers": entropy.mean(), "written": box_distance(read, boxes).mean()}


def spread_numbers(boxes: torch.Tensor) -> torch.Tensor:
    """Shares (m * 4, 1001) of what may be written for the numbers of boxes (m, 4) in 0..1.

    A number is uncertain in proportion to its box: what counts is the overlap.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    deviation = (_SPREAD * NORM_MAX * sides).clamp(min=_LEAST_SPREAD).reshape(-1, 1)
    numbers = torch.arange(NORM_MAX + 1, device=boxes.device)
    distance = numbers - NORM_MAX * boxes.reshape(-1, 1)
    return F.softmax(-((distance / deviation) ** 2) / 2, dim=-1)


def answered(labels: torch.Tensor) -> torch.Tensor:
    """(batch, tokens - 1), the places whose next token has a loss."""
    return labels[:, 1:] != IGNORED


def first_answered(labels: torch.Tensor) -> torch.Tensor:
    """(batch, tokens - 1), the places whose next token is the first of an answer."""
    return (labels[:, :-1] == IGNORED) & answered(labels)
