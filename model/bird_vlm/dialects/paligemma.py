"""PaliGemma 1 and 2: boxes of location tokens, y before x, 1024 bins.

    <loc0184><loc0053><loc0808><loc0625> liver ; <loc0184><loc0700><loc0400><loc0800> liver

A number is round(1023 * position): PaliGemma paper (arXiv 2407.07726), section 3.2.5, and
big_vision's preprocessing. The prompts are the ones of its pretraining; they end without the line
break, which the processor adds. The family does not chat.
Fine-tunes with a language of their own (`radgrounder.py`) are refused here.
Knows nothing about weights or pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bird_vlm.boxes import BoxNorm
from bird_vlm.contract import ReferringTask
from bird_vlm.dialects.absence import says_absent
from bird_vlm.dialects.dialect import refuse_marks
from bird_vlm.dialects.found import ABSENT, FoundObject, grounding_of
from bird_vlm.dialects.grid import Grid
from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.errors import BadRequestError, GrammarError
from bird_vlm.grammar import Grounding

_GRID = Grid(1023, 1023, y_first=True)
_SEPARATOR = ";"
_LOCATION = r"\s*<loc([0-9]{4})>"
LOCATION_TOKENS = tuple(f"<loc{number:04d}>" for number in range(1024))
LOCATIONS = re.compile(_LOCATION * 4)
_MASK = r"(?:\s*<seg[0-9]{3}>)*"  # follows the box where a mask was asked for
_OBJECT = re.compile(rf"{_LOCATION * 4}{_MASK}(?P<label>(?:(?!<loc|<seg).)*)", re.DOTALL)
_END = re.compile(r"<(?:eos|pad)>")


@dataclass(frozen=True)
class PaliGemma:
    """A BoxDialect of location tokens; an empty answer means absent."""

    name: str = "paligemma"
    marks: re.Pattern[str] = re.compile(
        r"<image>|<loc[0-9]{4}>|<seg[0-9]{3}>|<(?:bos|eos|pad|unk|mask)>"
        r"|<(?:start|end)_of_turn>|<unused[0-9]+>"
    )
    written_box: re.Pattern[str] = LOCATIONS
    number_tokens: tuple[str, ...] = LOCATION_TOKENS

    def grid(self, shown: ShownPicture) -> Grid:
        return _GRID

    def sent(self, width: int, height: int) -> ShownPicture:
        return ShownPicture.unresized(width, height)

    def grounding_prompt(self, label: str) -> str:
        """
        >>> PaliGemma().grounding_prompt("left kidney")
        'detect left kidney'
        """
        return f"detect {self._one_object(label)}"

    def referring_prompt(self, task: ReferringTask, box_norm: BoxNorm, shown: ShownPicture) -> str:
        """Pretraining has one prompt with a box; it serves both tasks."""
        return f"caption {_locations(box_norm)}"

    def asking_prompt(self, question: str) -> str:
        """
        >>> PaliGemma().asking_prompt("Which organ is this?")
        'answer en Which organ is this?'
        """
        refuse_marks(self.marks, [question])
        return f"answer en {' '.join(question.split())}"

    def presence_question(self, label: str) -> None:
        """None: a location token against the end of text tells."""
        return

    def parse(self, text: str, shown: ShownPicture, asked: str | None = None) -> Grounding:
        """As BoxDialect; nothing but objects may stand in the answer."""
        answer = _END.split(text, maxsplit=1)[0]
        if says_absent(answer, asked):
            return ABSENT
        found = [_object(part, text) for part in answer.split(_SEPARATOR)]
        return grounding_of(found, asked, text)

    def format(self, label: str, boxes_norm: tuple[BoxNorm, ...], shown: ShownPicture) -> str:
        """
        >>> PaliGemma().format("liver", ((0, 500, 1000, 1000),), ShownPicture.unresized(9, 9))
        '<loc0512><loc0000><loc1023><loc1023> liver'
        """
        name = self._one_object(label)
        return f" {_SEPARATOR} ".join(f"{_locations(box_norm)} {name}" for box_norm in boxes_norm)

    def _one_object(self, label: str) -> str:
        refuse_marks(self.marks, [label])
        if _SEPARATOR in label:
            raise BadRequestError(
                f"label: {label!r} is several to PaliGemma; ask for what {_SEPARATOR!r} separates "
                "one by one"
            )
        return " ".join(label.split())


PALIGEMMA = PaliGemma()


def _locations(box_norm: BoxNorm) -> str:
    return "".join(f"<loc{number:04d}>" for number in _GRID.write(box_norm))


def _object(part: str, text: str) -> FoundObject:
    match = _OBJECT.fullmatch(part)
    if match is None:
        raise GrammarError(f"answer: {part!r} is not 4 location tokens and a name in {text!r}")
    *numbers, label = match.groups()
    return FoundObject(label.strip(), _GRID.read([int(number) for number in numbers], text))
