"""BiRD and Qwen-VL-Chat: the language of `grammar.py`, asked for by `prompts.py`.

    <ref>liver</ref><box>(52,180),(611,790)</box>

Knows nothing of its own but which tokens a user may not type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bird_vlm import grammar, prompts
from bird_vlm.boxes import NORM_MAX, BoxNorm
from bird_vlm.contract import ReferringTask
from bird_vlm.dialects.dialect import refuse_marks
from bird_vlm.dialects.grid import Grid
from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.grammar import Grounding


@dataclass(frozen=True)
class Bird:
    """A BoxDialect; numbers in thousandths of the picture, absence is a sentence."""

    name: str = "bird"
    marks: re.Pattern[str] = re.compile(
        r"<\|[a-z]+(?:_[a-z0-9]+)*\|>|</?(?:ref|box|quad|img)>|<imgpad>"
    )
    written_box: re.Pattern[str] = re.compile(
        r"\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)\s*,\s*\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)"
    )
    number_tokens: tuple[str, ...] = ()

    def grid(self, shown: ShownPicture) -> Grid:
        return Grid(NORM_MAX, NORM_MAX)

    def sent(self, width: int, height: int) -> ShownPicture:
        return ShownPicture.unresized(width, height)

    def grounding_prompt(self, label: str) -> str:
        """As `prompts.grounding_prompt`."""
        refuse_marks(self.marks, [label])
        return prompts.grounding_prompt(label)

    def referring_prompt(self, task: ReferringTask, box_norm: BoxNorm, shown: ShownPicture) -> str:
        """As `prompts.referring_prompt`."""
        return prompts.referring_prompt(task, box_norm)

    def asking_prompt(self, question: str) -> str:
        """The question as it is."""
        refuse_marks(self.marks, [question])
        return question

    def presence_question(self, label: str) -> None:
        """None: BiRD is trained to tell with the first token."""
        return

    def parse(self, text: str, shown: ShownPicture, asked: str | None = None) -> Grounding:
        """As `grammar.parse_grounding`: one object, under whatever name, all its boxes."""
        return grammar.parse_grounding(text)

    def format(self, label: str, boxes_norm: tuple[BoxNorm, ...], shown: ShownPicture) -> str:
        """As `grammar.format_present` or `grammar.format_absent`."""
        refuse_marks(self.marks, [label])
        if boxes_norm:
            return grammar.format_present(label, boxes_norm)
        return grammar.format_absent(label)


BIRD = Bird()
