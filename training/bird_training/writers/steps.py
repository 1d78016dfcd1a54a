"""The two things that a language model is asked for a picture: a caption, then the conversations.

A step knows its parts, how to ask for some of them, and how to tell good answers from bad ones.
Knows nothing about endpoints, nor how often to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bird_training.facts import PictureFacts, Turn
from bird_training.writers.checks import Checker, RefusedError
from bird_training.writers.plan import Ask, PicturePlan
from bird_training.writers.prompting import Prompts
from bird_training.writers.replies import read_caption, read_items
from bird_vlm.chat import ChatAnswer, ChatMessage

_CAPTION_TOKENS, _TOKENS_PER_TURN, _TOKENS_BESIDE = 400, 160, 100  # room for answers
_KEPT = {"larger", "side"}  # comparisons cannot be checked in free words: the offline ones stay


@dataclass(frozen=True)
class Read:
    """An answer taken apart: what is good, and why the rest is not, by part."""

    good: dict[int, str | Turn]
    refused: dict[int, str]


class Step(Protocol):
    """What `LlmWriter` needs to know of a step."""

    parts: tuple[int, ...]

    def messages(self, parts: Sequence[int], refused: dict[int, str]) -> tuple[ChatMessage, ...]:
        """What to ask for these parts; `refused` tells what was wrong with the last answer."""

    def room(self, parts: Sequence[int]) -> int:
        """Tokens that the answer may take."""

    def read(self, answer: ChatAnswer, parts: Sequence[int]) -> Read:
        """Check what came back."""

    def name(self, part: int) -> str:
        """How the report calls a part."""


class CaptionStep:
    """Step (ii): one part, the caption."""

    parts = (0,)

    def __init__(self, facts: PictureFacts, prompts: Prompts) -> None:
        self.facts, self.prompts = facts, prompts
        self.checker = Checker(facts, prompts.words)

    def messages(self, parts: Sequence[int], refused: dict[int, str]) -> tuple[ChatMessage, ...]:
        return self.prompts.for_caption(self.facts, "\n".join(refused.values()))

    def room(self, parts: Sequence[int]) -> int:
        return _CAPTION_TOKENS

    def read(self, answer: ChatAnswer, parts: Sequence[int]) -> Read:
        try:
            return Read({0: self.checker.caption(read_caption(answer))}, {})
        except RefusedError as error:
            return Read({}, {0: str(error)})

    def name(self, part: int) -> str:
        return "caption"


class TurnsStep:
    """Step (iii): the parts are the places in `asks + dialogue` of the plan."""

    def __init__(
        self, facts: PictureFacts, prompts: Prompts, plan: PicturePlan, caption: str
    ) -> None:
        self.facts, self.prompts, self.caption = facts, prompts, caption
        self.checker = Checker(facts, prompts.words)
        self.asks: tuple[Ask, ...] = plan.asks + plan.dialogue
        self.in_dialogue = range(len(plan.asks), len(self.asks))
        self.parts = tuple(n for n, ask in enumerate(self.asks) if ask.topic not in _KEPT)

    def messages(self, parts: Sequence[int], refused: dict[int, str]) -> tuple[ChatMessage, ...]:
        asks = {part: self.asks[part] for part in parts}
        complaints = "\n".join(f"n {part}: {reason}" for part, reason in refused.items())
        return self.prompts.for_questions(
            self.facts, self.caption, asks, self.in_dialogue, complaints
        )

    def room(self, parts: Sequence[int]) -> int:
        return _TOKENS_BESIDE + _TOKENS_PER_TURN * len(parts)

    def read(self, answer: ChatAnswer, parts: Sequence[int]) -> Read:
        read = Read({}, {})
        try:
            items = read_items(answer)
        except RefusedError as error:
            return Read({}, dict.fromkeys(parts, str(error)))
        for part in parts:
            item = items.get(part, {})
            try:
                turn = self.checker.turn(self.asks[part], item.get("question"), item.get("answer"))
                read.good[part] = turn
            except RefusedError as error:
                read.refused[part] = str(error)
        return read

    def name(self, part: int) -> str:
        where = "dialogue " if part in self.in_dialogue else ""
        return f"{where}{self.asks[part].turn.task} {self.asks[part].topic}"
