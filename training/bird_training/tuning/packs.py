"""The training set of packs: which conversations share a row, and their pictures as pixels.

A pack is a row of at most so many tokens. Conversations about the same pictures may share those
(`share`): the words that they begin with are read once, and each continues from there. Which
conversations meet in a row hangs on the seed alone, so every process and every resumed run has the
same packs. Positions in a plane, of families that have them, are those of each conversation read
alone. Knows nothing about models or optimisers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from bird_training.packing import (
    IGNORED,
    PackedSequence,
    collate_packed,
    join_sequences,
    pack_blocks,
)
from bird_training.sources.reading import read_slice_picture
from bird_training.tuning.chat_tokens import TokenTable
from bird_training.tuning.reader import Reader

_OPEN = 32  # rows that wait for something that fits

Group = tuple[int, ...]  # conversations of one sequence; several share their pictures
Pack = tuple[Group, ...]  # sequences of one row


class PackDataset(Dataset):
    """Rows of packed conversations; `collate` makes a batch of model inputs.

    The length is a multiple of `batch`: rows without any loss fill it up, so that every step of
    every number of processes sees the same conversations exactly once per epoch.
    """

    def __init__(
        self,
        table: TokenTable,
        reader: Reader,
        *,
        tokens: int,
        batch: int,
        share: bool,
        seed: int,
    ) -> None:
        self.table, self.reader = table, reader
        groups = groups_of(table, tokens, share)
        lengths = [group_length(table, group) for group in groups]
        self.packs = fill_packs(groups, lengths, tokens, seed)
        self.filled = sum(lengths) / (len(self.packs) * tokens)  # share of the rows that is used
        self.pictures = sum(len(pictures_of(table, group)) for group in groups)  # to look at
        self.fillers = -len(self.packs) % batch

    def __len__(self) -> int:
        return len(self.packs) + self.fillers

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(self.packs):
            return self._filler()
        pack = self.packs[index]
        pictures = [row for group in pack for row in pictures_of(self.table, group)]
        return {
            "sequence": join_sequences([sequence_of(self.table, group) for group in pack]),
            "positions": self._positions(pack),
            "pixels": self._pixels(pictures),
        }

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Samples -> arguments of the network's forward.

        `position_ids` is (batch, tokens), or (1 + axes, batch, tokens) where the family has
        positions in a plane: the tokens' numbers, by which sequences are told apart, then the axes.
        """
        sequences = [sample["sequence"] for sample in samples]
        shared = any(s.turns != s.prefixes for s in sequences)
        inputs = collate_packed(sequences, self.reader.pad_id, mask=shared)
        positions = [sample["positions"] for sample in samples]
        if positions[0] is not None:
            axes = pad_sequence(positions, batch_first=True)  # (batch, tokens, axes)
            numbers = inputs["position_ids"][None]
            inputs["position_ids"] = torch.cat([numbers, axes.permute(2, 0, 1)])
        inputs["use_cache"] = False  # with a cache, networks take a row for one sequence
        pixels = [sample["pixels"] for sample in samples]
        return inputs | {name: torch.cat([p[name] for p in pixels]) for name in pixels[0]}

    def _filler(self) -> dict[str, Any]:
        """A short row without loss, with a picture so that every weight is used."""
        first = self.packs[0][0][:1]
        sequence = sequence_of(self.table, first)
        silent = PackedSequence(**{**vars(sequence), "labels": [IGNORED] * len(sequence.labels)})
        return {
            "sequence": silent,
            "positions": self._positions((first,)),
            "pixels": self._pixels(pictures_of(self.table, first)),
        }

    def _pixels(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Cut and windowed as at inference."""
        return self.reader.pixels([read_slice_picture(self.table.paths[row]) for row in rows])

    def _positions(self, pack: Pack) -> torch.Tensor | None:
        """(tokens, axes) of a row, each conversation's as if it were read alone."""
        parts = [part for group in pack for part in self._group_positions(group)]
        if parts[0] is None:
            return None
        return torch.as_tensor(np.concatenate(parts, axis=1).T)

    def _group_positions(self, group: Group) -> list[np.ndarray | None]:
        start, _ = _shared(self.table, group)
        alone = [self._alone(index) for index in group]
        if alone[0] is None:
            return [None]
        return [alone[0][:, :start], *(positions[:, start:] for positions in alone)]

    def _alone(self, index: int) -> np.ndarray | None:
        paths = [self.table.paths[row] for row in self.table.pictures[index]]
        return self.reader.positions(self.table.row(index)[0], paths)


def sequence_of(table: TokenTable, group: Group) -> PackedSequence:
    """One sequence: what all conversations of the group begin with, then the rest of each."""
    rows = [table.row(index) for index in group]
    start, _ = _shared(table, group)
    return pack_blocks(rows[0][0][:start], [(ids[start:], labels[start:]) for ids, labels in rows])


def pictures_of(table: TokenTable, group: Group) -> list[int]:
    """Rows of `table.paths` in the order in which `sequence_of` needs them."""
    _, shown = _shared(table, group)
    later = [row for index in group for row in table.pictures[index][shown:]]
    return [*table.pictures[group[0]][:shown], *later]


def group_length(table: TokenTable, group: Group) -> int:
    """Tokens of `sequence_of`."""
    start, _ = _shared(table, group)
    return start + sum(table.length(index) - start for index in group)


def _shared(table: TokenTable, group: Group) -> tuple[int, int]:
    return table.shared_start(group) if len(group) > 1 else (0, 0)


def groups_of(table: TokenTable, tokens: int, share: bool) -> list[Group]:
    """Conversations that share a sequence of at most `tokens` tokens, in the order of the data."""
    if not share:
        return [(index,) for index in range(len(table))]
    by_pictures: dict[tuple[int, ...], list[int]] = {}
    for index, pictures in enumerate(table.pictures):
        by_pictures.setdefault(pictures, []).append(index)
    groups: list[Group] = []
    for indices in by_pictures.values():
        group: Group = ()
        for index in indices:
            if group and group_length(table, (*group, index)) > tokens:
                groups.append(group)
                group = ()
            group = (*group, index)
        groups.append(group)
    return groups


def fill_packs(
    groups: Sequence[Group], lengths: Sequence[int], tokens: int, seed: int
) -> list[Pack]:
    """Rows of at most `tokens` tokens: each group, in random order, goes where least stays free."""
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    packs: list[Pack] = []
    opened: list[tuple[int, Pack]] = []  # tokens used, and by what
    for number in order:
        fitting = [row for row in opened if row[0] + lengths[number] <= tokens]
        used, pack = max(fitting, key=lambda row: row[0]) if fitting else (0, ())
        if fitting:
            opened.remove((used, pack))
        elif len(opened) == _OPEN:
            fullest = max(opened, key=lambda row: row[0])
            opened.remove(fullest)
            packs.append(fullest[1])
        opened.append((used + lengths[number], (*pack, groups[number])))
    return [*packs, *(pack for _, pack in opened)]
