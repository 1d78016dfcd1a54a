"""Conversations as tokens, exactly as the model's chat template writes them.

All conversations of a training stand in a few flat arrays, so that worker processes share them and
a quarter of a million take a few hundred megabytes. The loss covers the answers and their end
tokens. Knows nothing about model families, pixels, packing or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from bird_training.conversations import Conversation
from bird_training.packing import IGNORED
from bird_training.tuning.reader import Reader, Written
from bird_vlm.errors import BirdError

TooLong = Literal["cut", "skip", "stop"]
_AT_ONCE = 1000


@dataclass(frozen=True)
class TokenCounts:
    """What became of the conversations that were read."""

    kept: int
    cut: int  # conversations that lost their last exchanges
    skipped: int  # conversations that did not fit at all


class TokenTable:
    """Tokens of many conversations; a picture is one image token here, expanded on the way out."""

    def __init__(
        self,
        image_token_id: int,
        picture_tokens: Sequence[int],
        tokens: Sequence[np.ndarray],
        trained: Sequence[np.ndarray],
        pictures: Sequence[tuple[int, ...]],
        paths: Sequence[Path],
        counts: TokenCounts,
    ) -> None:
        self.image_token_id = image_token_id
        self.picture_tokens = np.asarray(picture_tokens, dtype=np.int64)  # of each of `paths`
        self.starts = np.cumsum([0, *map(len, tokens)])
        self.tokens = np.concatenate(tokens)
        self.trained = np.concatenate(trained)
        self.pictures = list(pictures)  # per conversation: rows of `paths`
        self.paths = list(paths)
        self.counts = counts

    def __len__(self) -> int:
        return len(self.pictures)

    def length(self, index: int) -> int:
        """Tokens of conversation `index` with its pictures expanded."""
        written = int(self.starts[index + 1] - self.starts[index])
        return written + self._expanded(self.pictures[index])

    def row(self, index: int) -> tuple[list[int], list[int]]:
        """(input ids, labels) of conversation `index`, pictures expanded."""
        span = slice(self.starts[index], self.starts[index + 1])
        tokens, trained = self.tokens[span], self.trained[span]
        times = np.ones(len(tokens), dtype=np.int64)
        times[tokens == self.image_token_id] = self.picture_tokens[list(self.pictures[index])]
        ids = np.repeat(tokens, times)
        labels = np.where(np.repeat(trained, times), ids, IGNORED)
        return ids.tolist(), labels.tolist()

    def shared_start(self, indices: Sequence[int]) -> tuple[int, int]:
        """(tokens, pictures) that all these conversations begin with, before any answer.

        One token less than possible is taken where an answer follows, so that each conversation
        keeps a token of its own that its answer's first token is predicted from.
        """
        spans = [slice(self.starts[i], self.starts[i + 1]) for i in indices]
        questions = [self.tokens[s][: int(self.trained[s].argmax()) - 1] for s in spans]
        shortest = min(map(len, questions))
        heads = np.stack([question[:shortest] for question in questions])
        differs = (heads != heads[0]).any(axis=0)
        written = int(differs.argmax()) if differs.any() else shortest
        pictures = int((heads[0, :written] == self.image_token_id).sum())
        return written + self._expanded(self.pictures[indices[0]][:pictures]), pictures

    def _expanded(self, pictures: Sequence[int]) -> int:
        """Tokens that pictures take beyond the one that stands for each."""
        return int((self.picture_tokens[list(pictures)] - 1).sum())


def tokenize(
    conversations: Iterable[Conversation],
    reader: Reader,
    *,
    limit: int,
    too_long: TooLong = "cut",
    progress: Callable[[int], object] | None = None,
) -> TokenTable:
    """Tokens of all conversations of at most `limit` tokens, pictures included.

    A longer one loses its last exchanges ("cut"), is left out ("skip") or raises ("stop");
    one whose first exchange alone is too long is never cut inside an answer: it raises, or is left
    out with "skip". `progress` is called with the conversations read. Raises BirdError, also where
    nothing is left.
    """
    writer = _Writer(reader, limit, too_long)
    for batch in _batches(conversations):
        writer.add(batch)
        if progress is not None:
            progress(writer.read)
    return writer.table()


class _Writer:
    """Collects the columns of a TokenTable."""

    def __init__(self, reader: Reader, limit: int, too_long: TooLong) -> None:
        self.reader, self.limit, self.too_long = reader, limit, too_long
        self.tokens: list[np.ndarray] = []
        self.trained: list[np.ndarray] = []
        self.pictures: list[tuple[int, ...]] = []
        self.rows: dict[Path, int] = {}
        self.picture_tokens: list[int] = []
        self.read = self.cut = self.skipped = 0

    def add(self, batch: Sequence[Conversation]) -> None:
        for conversation, written in zip(batch, self.reader.write(batch), strict=True):
            self.read += 1
            self._add(conversation, written)

    def _add(self, conversation: Conversation, written: Written) -> None:
        ids, trained = written
        is_image = ids == self.reader.image_token_id
        if int(is_image.sum()) != len(conversation.pictures):
            raise BirdError(
                f"{conversation.origin}: {len(conversation.pictures)} pictures but "
                f"{int(is_image.sum())} image tokens; does the model's chat template know pictures?"
            )
        ends = 1 + np.flatnonzero(trained & ~np.append(trained[1:], False))
        times = np.ones(len(ids), dtype=np.int64)
        times[is_image] = [self.reader.picture_tokens(path) for path in conversation.pictures]
        expanded = np.cumsum(times)
        fitting = ends[expanded[ends - 1] <= self.limit]
        if not self._fits(conversation, len(fitting), len(ends), int(expanded[ends[-1] - 1])):
            return
        end = fitting[-1]
        self.tokens.append(ids[:end])
        self.trained.append(trained[:end])
        shown = conversation.pictures[: int(is_image[:end].sum())]
        self.pictures.append(tuple(map(self._row, shown)))

    def _row(self, path: Path) -> int:
        if path not in self.rows:
            self.rows[path] = len(self.rows)
            self.picture_tokens.append(self.reader.picture_tokens(path))
        return self.rows[path]

    def _fits(self, conversation: Conversation, fitting: int, answers: int, length: int) -> bool:
        """Whether something of the conversation is kept; counts what is not."""
        if fitting == answers:
            return True
        if self.too_long == "cut" and fitting:
            self.cut += 1
            return True
        if self.too_long == "skip":
            self.skipped += 1
            return False
        raise BirdError(
            f"{conversation.origin}: {length} tokens are more than the {self.limit} of a sequence; "
            "shorten it, or leave such records out with --set too_long=skip (a model that reads "
            "pictures at their own size also takes --set picture_tokens=256)"
        )

    def table(self) -> TokenTable:
        if not self.tokens:
            raise BirdError(
                f"data: none of the {self.read} conversations can be trained on; "
                "is this the train folder that `medgrit build` wrote?"
            )
        return TokenTable(
            self.reader.image_token_id,
            self.picture_tokens,
            self.tokens,
            self.trained,
            self.pictures,
            list(self.rows),
            TokenCounts(len(self.tokens), self.cut, self.skipped),
        )


def _batches(conversations: Iterable[Conversation]) -> Iterator[list[Conversation]]:
    source = iter(conversations)
    while batch := list(islice(source, _AT_ONCE)):
        yield batch
