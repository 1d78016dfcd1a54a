"""Several questions in one sequence, none of which sees another.

Two ways, which combine. The picture and the words before the question are read once; every
question then continues from there, with its own positions, under a block mask (`pack_turns`). And
whole sequences stand one behind the other, positions starting again, blind to each other
(`join_sequences`). The logits are those of separate sequences. Knows nothing about pictures or
files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

IGNORED = -100


@dataclass(frozen=True)
class PackedSequence:
    """Tokens of one row; every list has one entry per token.

    A token sees the earlier tokens of its own block and of the block that it continues.
    """

    input_ids: list[int]
    labels: list[int]  # IGNORED where no loss is wanted
    position_ids: list[int]
    turns: list[int]  # number of the block; of one picture: 0 = shared prefix, 1.. = question
    prefixes: list[int]  # number of the block that this one continues; its own where it begins


def pack_turns(prefix: list[int], turns: Sequence[tuple[list[int], list[int]]]) -> PackedSequence:
    """Pack (question tokens, answer tokens) pairs behind a common prefix; loss on answers only."""
    return pack_blocks(
        prefix,
        [(question + answer, [IGNORED] * len(question) + answer) for question, answer in turns],
    )


def pack_blocks(prefix: list[int], blocks: Sequence[tuple[list[int], list[int]]]) -> PackedSequence:
    """Pack (tokens, labels) blocks behind a common prefix, which has no loss."""
    packed = PackedSequence(
        list(prefix),
        [IGNORED] * len(prefix),
        list(range(len(prefix))),
        [0] * len(prefix),
        [0] * len(prefix),
    )
    for number, (tokens, labels) in enumerate(blocks, start=1):
        packed.input_ids.extend(tokens)
        packed.labels.extend(labels)
        packed.position_ids.extend(range(len(prefix), len(prefix) + len(tokens)))
        packed.turns.extend([number] * len(tokens))
        packed.prefixes.extend([0 if prefix else number] * len(tokens))
    return packed


def join_sequences(sequences: Sequence[PackedSequence]) -> PackedSequence:
    """One row of several sequences, each blind to the others and with its own positions."""
    joined = PackedSequence([], [], [], [], [])
    blocks = 0
    for sequence in sequences:
        joined.input_ids.extend(sequence.input_ids)
        joined.labels.extend(sequence.labels)
        joined.position_ids.extend(sequence.position_ids)
        joined.turns.extend(blocks + number for number in sequence.turns)
        joined.prefixes.extend(blocks + number for number in sequence.prefixes)
        blocks += 1 + max(sequence.turns)
    return joined


def collate_packed(
    sequences: Sequence[PackedSequence], pad_id: int, *, mask: bool = True
) -> dict[str, torch.Tensor]:
    """Right-padded model inputs; `attention_mask` is boolean (batch, 1, tokens, tokens).

    Without `mask` it is left out, which says the same where no block continues another: positions
    that start again begin a sequence of their own, and kernels for packed sequences apply.
    """
    longest = max(len(s.input_ids) for s in sequences)

    def padded(values: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([v + [fill] * (longest - len(v)) for v in values])

    inputs = {
        "input_ids": padded([s.input_ids for s in sequences], pad_id),
        "labels": padded([s.labels for s in sequences], IGNORED),
        "position_ids": padded([s.position_ids for s in sequences], 0),
    }
    if mask:
        inputs["attention_mask"] = _block_mask(
            padded([s.turns for s in sequences], -1), padded([s.prefixes for s in sequences], -1)
        )
    return inputs


def _block_mask(turns: torch.Tensor, prefixes: torch.Tensor) -> torch.Tensor:
    reader, begun, read = turns[:, :, None], prefixes[:, :, None], turns[:, None, :]
    own = (reader == read) | (begun == read)
    causal = torch.ones(turns.shape[1], turns.shape[1], dtype=torch.bool).tril()
    return (own & causal)[:, None]
