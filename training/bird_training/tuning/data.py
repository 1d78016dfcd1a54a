"""From released files to the training set of a model, told in a few numbers.

Reading, tokens and packs are `conversations.py`'s, `chat_tokens.py`'s and `packs.py`'s; this puts
them in a row. Knows nothing about optimisers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bird_training.conversations import Conversation, conversation_files, read_conversations
from bird_training.tuning.chat_tokens import tokenize
from bird_training.tuning.packs import PackDataset
from bird_training.tuning.plan import DataSize
from bird_training.tuning.reader import Reader
from bird_training.tuning.recipe import Recipe
from bird_vlm.console import console
from bird_vlm.errors import BirdError


@dataclass(frozen=True)
class TuningData:
    """The packed training set and what it holds."""

    dataset: PackDataset
    labels: dict[str, list[str]] = field(default_factory=dict)  # names asked for, by modality

    @property
    def digest(self) -> str:
        """Changes with any token, picture path or pack."""
        table, hasher = self.dataset.table, hashlib.sha256()
        hasher.update(table.tokens.tobytes())
        hasher.update(table.trained.tobytes())
        hasher.update("\n".join(path.name for path in table.paths).encode())
        hasher.update(repr(self.dataset.packs).encode())
        return hasher.hexdigest()[:16]

    @property
    def size(self) -> DataSize:
        packs, table = self.dataset.packs, self.dataset.table
        tokens = round(float(table.picture_tokens.mean()))
        return DataSize(len(packs), self.dataset.pictures / len(packs), tokens)

    def summary(self) -> str:
        table, counts = self.dataset.table, self.dataset.table.counts
        lost = [f"{counts.cut} shortened"] * bool(counts.cut)
        lost += [f"{counts.skipped} left out as too long"] * bool(counts.skipped)
        return (
            f"{counts.kept} conversations about {len(table.paths)} pictures"
            f"{' (' + ', '.join(lost) + ')' if lost else ''} in {len(self.dataset.packs)} "
            f"sequences, {100 * self.dataset.filled:.0f} % full"
        )


def load_data(
    data: Path,
    images: Path | None,
    reader: Reader,
    recipe: Recipe,
) -> TuningData:
    """Read, check, reword, tokenise and pack everything under `data`. Raises BirdError."""
    if recipe.tokens > reader.longest:
        raise BirdError(
            f"tokens: {recipe.tokens} are more than this model's {reader.longest}; "
            f"use --tokens {reader.longest}"
        )
    names: dict[str, set[str]] = {}
    read = read_conversations(conversation_files(data), images, reader.control)
    with console.status("reading conversations ...") as status:
        table = tokenize(
            (own for talk in _noting(read, names) for own in reader.reworded(talk)),
            reader,
            limit=recipe.tokens,
            too_long=recipe.too_long,
            progress=lambda count: status.update(f"reading conversations ... {count}"),
        )
        dataset = PackDataset(
            table,
            reader,
            tokens=recipe.tokens,
            batch=recipe.batch,
            share=recipe.share_pictures,
            seed=recipe.seed,
        )
    return TuningData(dataset, {name: sorted(found) for name, found in sorted(names.items())})


def _noting(
    conversations: Iterable[Conversation], names: dict[str, set[str]]
) -> Iterator[Conversation]:
    """Pass conversations on and note the labels by modality."""
    for conversation in conversations:
        if labels := conversation.labels():
            names.setdefault(conversation.modality, set()).update(labels)
        yield conversation
