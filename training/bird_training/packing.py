"""Several questions about one picture in one sequence, none of which sees another.

The picture and the words before the question are read once; every question then continues from
there, with its own positions, under a block mask. The logits are those of separate sequences.
Knows nothing about pictures or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

IGNORED = -100


@dataclass(frozen=True)
class PackedSequence:
    """One picture's tokens; every list has one entry per token."""

    input_ids: list[int]
    labels: list[int]  # IGNORED where no loss is wanted
    position_ids: list[int]
    turns: list[int]  # 0 = shared prefix, 1.. = the question that the token belongs to


def pack_turns(prefix: list[int], turns: Sequence[tuple[list[int], list[int]]]) -> PackedSequence:
    """Pack (question tokens, answer tokens) pairs behind a common prefix; loss on answers only."""
    packed = PackedSequence(
        list(prefix), [IGNORED] * len(prefix), list(range(len(prefix))), [0] * len(prefix)
    )
    for number, (question, answer) in enumerate(turns, start=1):
        packed.input_ids.extend(question + answer)
        packed.labels.extend([IGNORED] * len(question) + answer)
        start, length = len(prefix), len(question) + len(answer)
        packed.position_ids.extend(range(start, start + length))
        packed.turns.extend([number] * length)
    return packed


def collate_packed(sequences: Sequence[PackedSequence], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-padded model inputs; `attention_mask` is boolean (batch, 1, tokens, tokens)."""
    longest = max(len(s.input_ids) for s in sequences)

    def padded(values: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([v + [fill] * (longest - len(v)) for v in values])

    turns = padded([s.turns for s in sequences], -1)
    return {
        "input_ids": padded([s.input_ids for s in sequences], pad_id),
        "labels": padded([s.labels for s in sequences], IGNORED),
        "position_ids": padded([s.position_ids for s in sequences], 0),
        "attention_mask": _block_mask(turns),
    }


def _block_mask(turns: torch.Tensor) -> torch.Tensor:
    reader, read = turns[:, :, None], turns[:, None, :]
    own = (reader == read) | ((read == 0) & (reader > 0))
    causal = torch.ones(turns.shape[1], turns.shape[1], dtype=torch.bool).tril()
    return (own & causal)[:, None]
