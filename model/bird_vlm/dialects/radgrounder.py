"""RadGrounder: boxes around the keywords of a report, x before y, 512 bins.

    Normal <p bbox=<loc0026><loc0092><loc0312><loc0404> id=<seg005>>liver</p>, no ascites.

A PaliGemma-2 fine-tune (arXiv 2606.20477; the prompts and the format are those of its published
training code). It cannot be asked for one object: it captions the picture, and the boxes of the
keyword are the answer. An object that the caption does not mention counts as absent, so a yes to
the presence question and no box can both be true; all labels of a picture share one answer.
Decode with special tokens kept, `</p>` may be one. Knows nothing about weights or pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bird_vlm.boxes import BoxNorm
from bird_vlm.contract import ReferringTask
from bird_vlm.dialects.dialect import PresenceQuestion, refuse_marks
from bird_vlm.dialects.found import ABSENT, FoundObject, called_as_asked, grounding_of
from bird_vlm.dialects.grid import Grid
from bird_vlm.dialects.paligemma import LOCATION_TOKENS, LOCATIONS, PALIGEMMA
from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.errors import BadRequestError, GrammarError
from bird_vlm.grammar import Grounding

_BINS = 512
_GRID = Grid(_BINS, _BINS)
_CAPTION_PROMPT = "\n\nCaption this image and detect keywords: "  # a line for findings before it
_CLASS = 0  # which organ class a keyword is of is not known here, and not read
_KEYWORD = re.compile(
    r"<p bbox=" + r"\s*<loc([0-9]{4})>" * 4 + r"\s*id=\s*<seg[0-9]{3}>\s*>"
    r"\s*(?P<label>\S(?:(?!</?p\b).)*)</p>",
    re.DOTALL,
)
_PIECES = re.compile(r"<p\b|</p>|<loc|bbox=|<$")


@dataclass(frozen=True)
class RadGrounder:
    """A BoxDialect of keywords in a caption."""

    name: str = "radgrounder"
    marks: re.Pattern[str] = re.compile(rf"{PALIGEMMA.marks.pattern}|</?p\s*>|<p\s+bbox\s*=")
    written_box: re.Pattern[str] = LOCATIONS
    number_tokens: tuple[str, ...] = LOCATION_TOKENS[: _BINS + 1]

    def grid(self, shown: ShownPicture) -> Grid:
        return _GRID

    def sent(self, width: int, height: int) -> ShownPicture:
        return ShownPicture.unresized(width, height)

    def grounding_prompt(self, label: str) -> str:
        """The same for every label."""
        refuse_marks(self.marks, [label])
        return _CAPTION_PROMPT

    def referring_prompt(self, task: ReferringTask, box_norm: BoxNorm, shown: ShownPicture) -> str:
        """Raises BadRequestError: no question of its training has a box."""
        raise BadRequestError(
            "task: RadGrounder cannot be asked about a box; ask a free question or take "
            "another model"
        )

    def asking_prompt(self, question: str) -> str:
        """
        >>> RadGrounder().asking_prompt("Which organ is this?")
        '\\nWhich organ is this?\\nAnswer: '
        """
        refuse_marks(self.marks, [question])
        return f"\n{' '.join(question.split())}\nAnswer: "

    def presence_question(self, label: str) -> PresenceQuestion:
        """As SLAKE asks, which it was trained on."""
        return PresenceQuestion(self.asking_prompt(f"Does the picture contain {label}?"))

    def parse(self, text: str, shown: ShownPicture, asked: str | None = None) -> Grounding:
        """As BoxDialect, but a caption that names other objects only means absent.

        With nothing `asked`, all keywords must be one object.
        """
        found = [
            FoundObject(label.strip(), _GRID.read([int(number) for number in numbers], text))
            for *numbers, label in _KEYWORD.findall(text)
        ]
        rest = _PIECES.search(_KEYWORD.sub("", text))
        if rest is not None:
            raise GrammarError(f"answer: a keyword is cut off or malformed in {text!r}")
        if asked is not None and not called_as_asked(found, asked):
            return ABSENT
        return grounding_of(found, asked, text)

    def format(self, label: str, boxes_norm: tuple[BoxNorm, ...], shown: ShownPicture) -> str:
        """A caption of the keyword alone; without boxes, an empty one."""
        refuse_marks(self.marks, [label])
        return ", ".join(
            f"<p bbox={_corners(b)} id=<seg{_CLASS:03d}>>{label}</p>" for b in boxes_norm
        )


RADGROUNDER = RadGrounder()


def _corners(box_norm: BoxNorm) -> str:
    return "".join(f"<loc{number:04d}>" for number in _GRID.write(box_norm))
