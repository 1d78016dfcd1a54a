"""Many labels on many pictures, at the price of the choices that are the model's.

Every picture is read once for all its labels, the first token after a question tells whether the
object is there, and only where it is are the numbers of its boxes decoded; the signs around them
are fed. Knows pictures' features and words; knows nothing about volumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import ProcessorMixin

from bird_vlm.answers import PictureAnswer
from bird_vlm.confidence import token_probabilities
from bird_vlm.frames import AnswerTokens, Writing
from bird_vlm.grammar import MAX_BOXES, REF_START, format_absent
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.packed import PackedDecoder, Place
from bird_vlm.prompts import grounding_prompt

_LABELS_AT_ONCE = 16


@dataclass(frozen=True)
class _Questions:
    """What every picture of a batch is asked, in tokens."""

    labels: Sequence[str]
    prefix: list[int]  # what stands before a question, with the places of the image tokens
    questions: list[list[int]]
    absent_ids: list[int]  # how the answer begins where the object is absent

    @property
    def length(self) -> int:
        return len(self.prefix) + sum(map(len, self.questions))


class Grounder:
    """Grounds with one network."""

    def __init__(
        self, network: BirdForConditionalGeneration, processor: ProcessorMixin, budget: int
    ) -> None:
        """`budget` is how many tokens the decoder reads at once."""
        self.network, self.processor, self.budget = network, processor, budget
        self.words = AnswerTokens(processor.tokenizer)
        self.present_id = self.words.ids(REF_START)[0]

    @torch.inference_mode()
    def ground(
        self, features: torch.Tensor, labels: Sequence[str], threshold: float
    ) -> list[list[PictureAnswer]]:
        """Ask for every label on every picture; answers[picture][label].

        `features` are (pictures, image tokens, width). An object whose presence probability is
        below `threshold` is absent and gets no boxes.
        """
        answers: list[list[PictureAnswer]] = [[] for _ in features]
        for start in range(0, len(labels), _LABELS_AT_ONCE):
            asked = self._questions(labels[start : start + _LABELS_AT_ONCE])
            size = max(1, self.budget // asked.length)
            for first in range(0, len(features), size):
                rows = self._batch(features[first : first + size], asked, threshold)
                for row, found in enumerate(rows, start=first):
                    answers[row] += found
        return answers

    def _questions(self, labels: Sequence[str]) -> _Questions:
        prompts = [grounding_prompt(label) for label in labels]
        self.processor.refuse_control_tokens(prompts)
        prefix, after = self.processor.around_question()
        return _Questions(
            labels,
            prefix,
            [self.words.ids(prompt + after) for prompt in prompts],
            [self.words.ids(format_absent(label))[0] for label in labels],
        )

    def _batch(
        self, features: torch.Tensor, asked: _Questions, threshold: float
    ) -> list[list[PictureAnswer]]:
        decoder = PackedDecoder(self.network, self.processor.tokenizer.pad_token_id)
        logits = decoder.begin(features, asked.prefix, asked.questions)
        presence = self._presence(logits, asked).tolist()
        writings = {
            (row, column): Writing(self.words, label, MAX_BOXES)
            for row, shares in enumerate(presence)
            for column, label in enumerate(asked.labels)
            if shares[column] >= threshold
        }
        self._write(decoder, writings)
        return [
            [self._answer(share, writings.get((r, column))) for column, share in enumerate(shares)]
            for r, shares in enumerate(presence)
        ]

    def _presence(self, logits: torch.Tensor, asked: _Questions) -> torch.Tensor:
        """(rows, labels) probabilities, from the logits behind the questions."""
        absent = torch.tensor(asked.absent_ids, device=logits.device).expand(len(logits), -1)
        absent = logits.gather(-1, absent[..., None])[..., 0]
        return torch.sigmoid(logits[..., self.present_id].float() - absent.float())

    def _write(self, decoder: PackedDecoder, writings: Mapping[Place, Writing]) -> None:
        """Write all answers to their ends, a choice of each at a time."""
        while waiting := {p: writing for p, writing in writings.items() if not writing.done}:
            decoder.keep(sorted({row for row, _ in waiting}))
            logits = decoder.extend({place: w.pending for place, w in waiting.items()})
            chosen = best_of(logits, [writing.choices for writing in waiting.values()])
            shares = token_probabilities(logits[:, None], chosen[:, None], self.words.whole)
            for writing, token, share in zip(
                waiting.values(), chosen.tolist(), shares[:, 0].tolist(), strict=True
            ):
                writing.choose(token, share)

    def _answer(self, presence: float, writing: Writing | None) -> PictureAnswer:
        if writing is None:
            return PictureAnswer(presence, "")
        text = self.processor.tokenizer.decode(writing.tokens, skip_special_tokens=False)
        return PictureAnswer(presence, text, writing.boxes_norm, writing.scores)


def best_of(logits: torch.Tensor, choices: Sequence[Sequence[int]]) -> torch.Tensor:
    """(n,) the most likely of each row's choices; logits (n, vocabulary)."""
    most = max(map(len, choices))
    ids = torch.tensor([[*row, *[row[0]] * (most - len(row))] for row in choices])
    best = logits.gather(1, ids.to(logits.device)).argmax(1, keepdim=True)
    return ids.to(logits.device).gather(1, best)[:, 0]
