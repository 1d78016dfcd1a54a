"""What a box dialect is: how a model family is asked for boxes, and how it writes them.

Knows text and norm boxes; knows nothing about weights, tokens or the pictures' pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bird_vlm.boxes import BoxNorm
from bird_vlm.contract import ReferringTask
from bird_vlm.dialects.grid import Grid
from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.errors import BadRequestError
from bird_vlm.grammar import Grounding


@dataclass(frozen=True)
class PresenceQuestion:
    """A question whose first word tells whether an object is in the picture."""

    text: str
    yes: tuple[str, ...] = ("Yes", "yes")  # answers that begin so, with or without a blank before
    no: tuple[str, ...] = ("No", "no")


class BoxDialect(Protocol):
    """One model family's language of boxes.

    Every prompt raises BadRequestError where the user's words hold one of `marks`, so that nobody
    can end the question or forge an answer.
    """

    name: str
    marks: re.Pattern[str]  # this family's control tokens
    written_box: re.Pattern[str]  # one box in an answer; its four groups are its numbers
    number_tokens: tuple[str, ...]  # of 0, 1, 2 ... a side, where each number is one token, else ()

    def grid(self, shown: ShownPicture) -> Grid:
        """The units of the numbers in an answer about a picture."""
        ...

    def sent(self, width: int, height: int) -> ShownPicture:
        """A picture of so many pixels, as the processor of a model elsewhere will resize it.

        Unresized where the numbers of an answer do not depend on that. Raises BadRequestError where
        the picture cannot be shown.
        """
        ...

    def grounding_prompt(self, label: str) -> str:
        """Where is `label`? The answer is for `parse`."""
        ...

    def referring_prompt(self, task: ReferringTask, box_norm: BoxNorm, shown: ShownPicture) -> str:
        """What is in the box (roc: its name, rc: a description)? The answer is words."""
        ...

    def asking_prompt(self, question: str) -> str:
        """A free question as this family wants it put; the answer is words."""
        ...

    def presence_question(self, label: str) -> PresenceQuestion | None:
        """None where presence is read off the first token of the answer to `grounding_prompt`:
        the first of `format(label, (), shown)`, or the end of text where that is empty, against
        the first of an answer with a box.
        """
        ...

    def parse(self, text: str, shown: ShownPicture, asked: str | None = None) -> Grounding:
        """Read an answer to `grounding_prompt(asked)`; no boxes means absent.

        Which objects count as the asked one: `found.grounding_of`. Raises GrammarError with the
        text in it.
        """
        ...

    def format(self, label: str, boxes_norm: tuple[BoxNorm, ...], shown: ShownPicture) -> str:
        """The answer that `parse` reads, as this family writes it; without boxes, absence."""
        ...


def refuse_marks(marks: re.Pattern[str], texts: Sequence[str]) -> None:
    """Raises BadRequestError where a user's text holds a control token."""
    for mark in filter(None, map(marks.search, texts)):
        raise BadRequestError(
            f"question: the control token {mark.group()} is refused; leave it out"
        )
