"""Several questions about each of several pictures, side by side in the decoder.

A row is a picture that was read before: every question goes on from there, blind to the others.
Rows, questions and cache are kept here; what is asked and what the answers mean is not. The logits
are those of separate sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from bird_vlm.memory import Memory, recalled
from bird_vlm.modeling_bird import BirdForConditionalGeneration

_SHARED, _NOTHING = 0, -1  # blocks: what all questions see, and padding
Place = tuple[int, int]  # row, question


class PackedDecoder:
    """One batch of rows; `begin` once, then `extend` as often as there is something to add."""

    def __init__(
        self, network: BirdForConditionalGeneration, pad_id: int, memories: Sequence[Memory]
    ) -> None:
        """A row for each of `memories`."""
        self.network, self.pad_id = network, pad_id
        self.device = network.device
        self.cache = recalled(network, memories)
        self.rows = list(range(len(memories)))
        self.blocks = torch.full((len(memories), self.cache.get_seq_length()), _SHARED)
        self.positions: dict[Place, int] = {}  # of the next token

    def begin(self, questions: Sequence[Sequence[int]]) -> torch.Tensor:
        """Ask every row all `questions`; the logits behind each, (rows, questions, vocabulary)."""
        first = self.blocks.shape[1]
        places = [(row, question) for row in self.rows for question in range(len(questions))]
        self.positions = dict.fromkeys(places, first)
        logits = self.extend({(row, number): questions[number] for row, number in places})
        return logits.unflatten(0, (len(self.rows), len(questions)))

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows; rows keep their names."""
        if list(rows) == self.rows:
            return
        places = [self.rows.index(row) for row in rows]
        self.cache.batch_select_indices(torch.tensor(places, device=self.device))
        self.blocks = self.blocks[places]
        self.rows = list(rows)

    def extend(self, tokens: Mapping[Place, Sequence[int]]) -> torch.Tensor:
        """Add tokens behind questions; the logits behind each, (places, vocabulary), in order."""
        length = max(
            sum(len(added) for (r, _), added in tokens.items() if r == row) for row in self.rows
        )
        shape = (len(self.rows), length)
        ids, blocks = torch.full(shape, self.pad_id), torch.full(shape, _NOTHING)
        positions = torch.zeros(shape, dtype=torch.long)
        filled, ends = [0] * len(self.rows), []
        for (row, question), added in tokens.items():
            at, first = self.rows.index(row), self.positions[row, question]
            span = slice(filled[at], filled[at] + len(added))
            ids[at, span] = torch.tensor(added)
            blocks[at, span] = question + 1
            positions[at, span] = torch.arange(first, first + len(added))
            self.positions[row, question] += len(added)
            filled[at] = span.stop
            ends.append((at, span.stop - 1))
        self.blocks = torch.cat([self.blocks, blocks], dim=1)
        states = self._run(ids, positions, visible(blocks, self.blocks))
        at, place = torch.tensor(ends, device=self.device).T
        return self.network.lm_head(states[at, place])

    def _run(
        self, ids: torch.Tensor, positions: torch.Tensor, sees: torch.Tensor, **pictures
    ) -> torch.Tensor:
        return self.network.model(
            input_ids=ids.to(self.device),
            position_ids=positions.to(self.device),
            attention_mask=sees.to(self.device),
            past_key_values=self.cache,
            use_cache=True,
            **pictures,
        ).last_hidden_state


def visible(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Which keys each query sees, (rows, 1, queries, keys), from the blocks of both.

    `queries` (rows, queries) are the last of `keys` (rows, keys); each sees what is shared and what
    stands before it in its own block.
    """
    shared = (keys == _SHARED)[:, None]
    same = (keys[:, None] == queries[..., None]) & (keys != _NOTHING)[:, None]
    count, total = queries.shape[1], keys.shape[1]
    earlier = torch.ones(count, total, dtype=torch.bool).tril(total - count)
    return ((shared | same) & earlier)[:, None]
