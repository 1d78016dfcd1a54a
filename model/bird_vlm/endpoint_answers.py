"""A server's reply, with the probabilities of its tokens where the server tells them.

The fields are those of OpenAI's chat completions (`logprobs`). Knows nothing about HTTP, nor about
what was asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bird_vlm.chat import ChatAnswer, read_completion

TOP_TOKENS = 20  # the most that OpenAI, and vLLM as it is started, tell of one position
TELL_PROBABILITIES = {"logprobs": True, "top_logprobs": TOP_TOKENS}  # request fields

Chances = Sequence[tuple[str, float]]  # a token's text, its probability 0..1


@dataclass(frozen=True)
class EndpointAnswer(ChatAnswer):
    """A ChatAnswer; both fields are empty where the server does not tell."""

    tokens: Chances = ()  # of the answer, in order
    first_tokens: Chances = ()  # what its first word might have been, the likeliest first

    @property
    def certainty(self) -> float:
        """0..1: geometric mean of the tokens' probabilities; 1 where the server does not tell."""
        return geometric_mean([probability for _, probability in self.tokens])


def geometric_mean(probabilities: Sequence[float]) -> float:
    """1 for none.

    >>> geometric_mean([0.5, 0.125])
    0.25
    """
    if not probabilities:
        return 1.0
    if min(probabilities) <= 0.0:
        return 0.0
    return math.exp(math.fsum(map(math.log, probabilities)) / len(probabilities))


def read_answer(text: str) -> EndpointAnswer:
    """Read a server's reply. Raises ValueError where it is no chat completion.

    Probabilities that are not as OpenAI writes them count as not told.
    """
    answer = asdict(read_completion(text))
    try:
        positions = _positions(json.loads(text))
        tokens = tuple(map(_chance, positions))
        first_tokens = _first_tokens(positions)
    except (AttributeError, KeyError, TypeError, ValueError):
        return EndpointAnswer(**answer)
    return EndpointAnswer(**answer, tokens=tokens, first_tokens=first_tokens)


def _positions(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return (reply["choices"][0].get("logprobs") or {}).get("content") or []


def _first_tokens(positions: list[dict[str, Any]]) -> Chances:
    """The alternatives where the first word stands: blanks and line breaks are no word."""
    worded = (place for place in positions if str(place["token"]).strip())
    first = next(worded, None)
    return tuple(map(_chance, first.get("top_logprobs") or [])) if first else ()


def _chance(entry: dict[str, Any]) -> tuple[str, float]:
    return str(entry["token"]), min(math.exp(float(entry["logprob"])), 1.0)
