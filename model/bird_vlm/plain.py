"""The plain way to ground: each answer decoded whole by transformers' `generate`, greedily.

As in the paper's evaluation. `engine.py` gives the same answers faster and is held against this.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor
from transformers.generation import GenerateDecoderOnlyOutput

from bird_vlm.answers import PictureAnswer
from bird_vlm.backbones.bird import BirdEngine
from bird_vlm.confidence import geometric_mean
from bird_vlm.errors import GrammarError
from bird_vlm.grammar import REF_START, format_absent, parse_grounding
from bird_vlm.prompts import grounding_prompt

_QUESTIONS_AT_ONCE = 32


class PlainEngine(BirdEngine):
    """An engine that decodes every token of every answer."""

    def ground(
        self, features: torch.Tensor, labels: Sequence[str], threshold: float = 0.5
    ) -> list[list[PictureAnswer]]:
        """Ask for every label on every picture; answers[picture][label].

        An object whose presence probability is below `threshold` is absent and gets no boxes.
        """
        questions = [grounding_prompt(label) for label in labels]
        absent_ids = [self._ids(format_absent(label))[0] for label in labels]
        pairs = [(p, q) for p in range(len(features)) for q in range(len(labels))]
        answers: list[PictureAnswer] = []
        for start in range(0, len(pairs), _QUESTIONS_AT_ONCE):
            batch = pairs[start : start + _QUESTIONS_AT_ONCE]
            gate = PresenceGate(
                present_id=self._ids(REF_START)[0],
                absent_ids=[absent_ids[q] for _, q in batch],
                threshold=threshold,
            )
            output = self._generate(
                features[[p for p, _ in batch]], [questions[q] for _, q in batch], gate
            )
            answers += self._picture_answers(output, gate)
        return [answers[i : i + len(labels)] for i in range(0, len(answers), len(labels))]

    def _picture_answers(
        self, output: GenerateDecoderOnlyOutput, gate: PresenceGate
    ) -> list[PictureAnswer]:
        answers = []
        for (tokens, probabilities), present in zip(
            self._answer_tokens(output), gate.presence, strict=True
        ):
            if present < gate.threshold:
                answers.append(PictureAnswer(present, ""))
                continue
            text = self._text(tokens)
            try:
                boxes_norm = parse_grounding(text).boxes_norm
            except GrammarError:
                answers.append(PictureAnswer(present, text, unreadable=True))
                continue
            scores = self._box_scores(tokens, probabilities)
            answers.append(PictureAnswer(present, text, boxes_norm, scores[: len(boxes_norm)]))
        return answers

    def _box_scores(self, tokens: list[int], probabilities: list[float]) -> tuple[float, ...]:
        words = self.grounder.words
        scores: list[float] = []
        shares: list[float] = []
        for token, share in zip(tokens, probabilities, strict=True):
            if token == words.box_start:
                shares = []
            elif token == words.box_end:
                scores.append(geometric_mean(shares))
            elif token in words.value_of:
                shares.append(share)
        return tuple(scores)


class PresenceGate(LogitsProcessor):
    """Decides at the first token whether an object is there, and remembers how likely it is.

    The choice is between the token that starts a box answer and the one that starts the sentence
    of absence.
    """

    def __init__(self, present_id: int, absent_ids: Sequence[int], threshold: float) -> None:
        self.present_id, self.threshold = present_id, threshold
        self.absent_ids = list(absent_ids)
        self.presence: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.presence:
            return scores
        rows = torch.arange(len(scores), device=scores.device)
        absent_ids = torch.tensor(self.absent_ids, device=scores.device)
        absent = scores[rows, absent_ids].float()
        presence = torch.sigmoid(scores[:, self.present_id].float() - absent)
        self.presence = presence.tolist()
        first = torch.where(presence >= self.threshold, self.present_id, absent_ids)
        forced = torch.full_like(scores, -torch.inf)
        forced[rows, first] = 0
        return forced
