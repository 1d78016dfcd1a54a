"""What the families that write their boxes as JSON have in common.

    [{"bbox_2d": [52, 180, 611, 790], "label": "liver"}]

They differ in the key, the order and the unit of the numbers. Knows nothing about any one family.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bird_vlm.boxes import BoxNorm
from bird_vlm.contract import ReferringTask
from bird_vlm.dialects.absence import says_absent
from bird_vlm.dialects.dialect import PresenceQuestion, refuse_marks
from bird_vlm.dialects.found import ABSENT, FoundObject, grounding_of
from bird_vlm.dialects.grid import Grid
from bird_vlm.dialects.json_objects import read_objects, without_thoughts
from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.errors import GrammarError
from bird_vlm.grammar import Grounding

_NUMBER = r"\s*(-?[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*"


@dataclass(frozen=True)
class JsonBoxes:
    """A BoxDialect whose answers are a JSON list of objects with a box and a label.

    An object without a label counts as the asked one; other keys are passed over.
    """

    name: str
    key: str  # of the box
    meaning: str  # of its four numbers, as the prompts say it
    marks: re.Pattern[str]
    grid: Callable[[ShownPicture], Grid]
    sent: Callable[[int, int], ShownPicture] = ShownPicture.unresized
    number_tokens: tuple[str, ...] = ()  # a token per digit, or as the tokenizer likes

    @cached_property
    def written_box(self) -> re.Pattern[str]:
        return re.compile(rf'"{self.key}"\s*:\s*\[' + ",".join([_NUMBER] * 4) + r"\]")

    def grounding_prompt(self, label: str) -> str:
        """Asks for a list, and for an empty one where there is nothing."""
        quoted = self._quoted(label)
        return (
            f"Locate every {quoted} in this image. Report bbox coordinates in JSON format: "
            f'[{{"{self.key}": {self.meaning}, "label": {quoted}}}]. '
            "If there is none, answer with an empty list: []"
        )

    def referring_prompt(self, task: ReferringTask, box_norm: BoxNorm, shown: ShownPicture) -> str:
        """Shows the box as this family writes it."""
        area = f"the area {json.dumps(self._box(box_norm, shown))} of this image"
        if task == "roc":
            return f"What is in {area}? The box is {self.meaning}. Answer with the name only."
        return f"Describe {area} in one or two sentences. The box is {self.meaning}."

    def asking_prompt(self, question: str) -> str:
        """The question as it is."""
        refuse_marks(self.marks, [question])
        return question

    def presence_question(self, label: str) -> PresenceQuestion:
        """Yes or no; the family chats."""
        return PresenceQuestion(
            f"Is there a {self._quoted(label)} in this image? Answer yes or no."
        )

    def parse(self, text: str, shown: ShownPicture, asked: str | None = None) -> Grounding:
        """As BoxDialect; `[]`, `{}`, nothing at all and a sentence of absence mean absent."""
        if says_absent(without_thoughts(text), asked):
            return ABSENT
        grid = self.grid(shown)
        found = [
            FoundObject(str(item.get("label") or ""), grid.read(self._numbers(item, text), text))
            for item in read_objects(text)
        ]
        return grounding_of(found, asked, text)

    def format(self, label: str, boxes_norm: tuple[BoxNorm, ...], shown: ShownPicture) -> str:
        """A list on one line, without a code fence."""
        refuse_marks(self.marks, [label])
        found = [self._box(box_norm, shown) | {"label": label} for box_norm in boxes_norm]
        return json.dumps(found, ensure_ascii=False)

    def _quoted(self, label: str) -> str:
        refuse_marks(self.marks, [label])
        return json.dumps(label, ensure_ascii=False)

    def _box(self, box_norm: BoxNorm, shown: ShownPicture) -> dict[str, Any]:
        return {self.key: self.grid(shown).write(box_norm)}

    def _numbers(self, item: dict[str, Any], text: str) -> list[float]:
        if self.key not in item:
            raise GrammarError(f"answer: no {self.key!r} among {sorted(item)} in {text!r}")
        numbers = item[self.key]
        if not isinstance(numbers, list) or not all(map(_is_number, numbers)):
            raise GrammarError(f"answer: {self.key} {numbers!r} is not of numbers in {text!r}")
        return numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
