"""Whether an object is in a picture, told by the first token of an answer.

Knows dialects and tokens; knows nothing about pictures or weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from bird_vlm.boxes import NORM_MAX
from bird_vlm.dialects import BoxDialect, ShownPicture
from bird_vlm.errors import CheckpointError

_ANY_PICTURE = ShownPicture.unresized(NORM_MAX, NORM_MAX)
_ANY_BOX = (0, 0, NORM_MAX, NORM_MAX)


class Presence:
    """Asks as a dialect asks: yes or no, or for the box itself."""

    def __init__(
        self,
        dialect: BoxDialect,
        tokenizer: PreTrainedTokenizerBase,
        number_ids: Sequence[int],
        end_ids: Sequence[int],
    ) -> None:
        """`number_ids` are the tokens of single numbers, `end_ids` those that end an answer."""
        self.dialect, self.tokenizer = dialect, tokenizer
        self.number_ids, self.end_ids = number_ids, end_ids

    def prompt(self, label: str) -> str:
        question = self.dialect.presence_question(label)
        return question.text if question else self.dialect.grounding_prompt(label)

    def of(self, logits: torch.Tensor, label: str) -> float:
        """0..1, from the logits (vocabulary,) for the first token of the answer to `prompt`.

        Raises CheckpointError for a tokenizer in which both answers begin alike.
        """
        present, absent = self._tokens(label)
        if not (present and absent):
            raise CheckpointError(
                "model: its tokenizer begins yes and no with the same token; take another model"
            )
        odds = logits[sorted(present)].logsumexp(0) - logits[sorted(absent)].logsumexp(0)
        return torch.sigmoid(odds).item()

    def _tokens(self, label: str) -> tuple[set[int], set[int]]:
        question = self.dialect.presence_question(label)
        if question is None:
            return self._of_a_box(label), self._of_no_box(label)
        return _apart(*(self._begins(words) for words in (question.yes, question.no)))

    def _begins(self, words: Sequence[str]) -> set[int]:
        """First tokens of words, with and without a blank before."""
        return {self._ids(blank + word)[0] for word in words for blank in ("", " ")}

    def _of_a_box(self, label: str) -> set[int]:
        first = self._ids(self.dialect.format(label, (_ANY_BOX,), _ANY_PICTURE))[0]
        return set(self.number_ids) if first in self.number_ids else {first}

    def _of_no_box(self, label: str) -> set[int]:
        answer = self.dialect.format(label, (), _ANY_PICTURE)
        return {self._ids(answer)[0]} if answer else set(self.end_ids)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def _apart(yes: set[int], no: set[int]) -> tuple[set[int], set[int]]:
    """Without what both have, such as a blank that is a token of its own."""
    return yes - no, no - yes
