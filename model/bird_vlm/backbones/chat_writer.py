"""A network that writes: the most likely answer, and how sure it was of each token.

Knows tokens; knows nothing about pictures, boxes or what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import (
    BatchFeature,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from bird_vlm.confidence import geometric_mean, token_probabilities

Span = tuple[int, int]  # first character, and the one after the last


@dataclass(frozen=True)
class Written:
    """An answer without its end token, control tokens spelled out."""

    text: str
    stops: tuple[int, ...]  # where in the text each token ends
    probabilities: tuple[float, ...]  # 0..1 per token

    @property
    def certainty(self) -> float:
        """0..1: geometric mean over all tokens."""
        return geometric_mean(self.probabilities)

    def certainty_of(self, spans: Sequence[Span]) -> float:
        """0..1: geometric mean over the tokens that these parts of the text are written in."""
        tokens = zip((0, *self.stops), self.stops, self.probabilities, strict=False)
        return geometric_mean(
            [
                probability
                for start, stop, probability in tokens
                if any(first < stop and start < last for first, last in spans)
            ]
        )


class Writer:
    """Writes with one network, greedily, whatever its own settings say."""

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        number_ids: Sequence[int] = (),
    ) -> None:
        """`number_ids` are the tokens of 0, 1, 2, ... where every number is one token."""
        self.network, self.tokenizer, self.number_ids = network.eval(), tokenizer, number_ids
        self.end_ids = _end_ids(network, tokenizer)
        network.generation_config = GenerationConfig(  # without its sampling and its penalties
            eos_token_id=self.end_ids, pad_token_id=tokenizer.pad_token_id, do_sample=False
        )

    def first_logits(self, inputs: BatchFeature) -> torch.Tensor:
        """(rows, vocabulary) float32, for the first token of each answer."""
        seen = _FirstLogits()
        self._generate(inputs, 1, seen)
        return seen.logits

    def write(self, inputs: BatchFeature, most_tokens: int) -> list[Written]:
        """One answer per row."""
        certainty = _Certainty(self.number_ids)
        tokens = self._generate(inputs, most_tokens, certainty)
        probabilities = torch.stack(certainty.steps, dim=1)  # (rows, steps)
        return list(map(self._written, tokens.tolist(), probabilities.tolist()))

    @torch.inference_mode()
    def _generate(
        self, inputs: BatchFeature, most_tokens: int, watching: LogitsProcessor
    ) -> torch.Tensor:
        """(rows, steps) new tokens."""
        inputs = inputs.to(self.network.device, dtype=self.network.dtype)
        sequences = self.network.generate(
            **inputs,
            max_new_tokens=most_tokens,
            logits_processor=LogitsProcessorList([watching]),
        )
        return sequences[:, inputs["input_ids"].shape[1] :]

    def _written(self, tokens: list[int], probabilities: list[float]) -> Written:
        length = next((i for i, token in enumerate(tokens) if token in self.end_ids), len(tokens))
        texts = [self._text(tokens[: place + 1]) for place in range(length)]
        stops = tuple(map(len, texts))
        return Written(texts[-1] if texts else "", stops, tuple(probabilities[:length]))

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(
            tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


class _FirstLogits(LogitsProcessor):
    """Changes nothing, and keeps what the first token is chosen from."""

    logits: torch.Tensor

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.logits = scores
        return scores


class _Certainty(LogitsProcessor):
    """Changes nothing, and keeps the probability of the most likely token of each step.

    All logits of an answer would take gigabytes where the vocabulary is large.
    """

    def __init__(self, number_ids: Sequence[int]) -> None:
        self.number_ids, self.steps = number_ids, []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = scores.argmax(-1, keepdim=True)
        self.steps.append(token_probabilities(scores[:, None], chosen, self.number_ids)[:, 0])
        return scores


def _end_ids(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ends = network.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return sorted({end for end in (*listed, tokenizer.eos_token_id) if end is not None})
