"""What a written answer says about one object on one picture.

Knows dialects; knows nothing about pictures, tokens or weights.
"""

from __future__ import annotations

from bird_vlm.answers import PictureAnswer
from bird_vlm.backbones.chat_writer import Written
from bird_vlm.dialects import BoxDialect, ShownPicture
from bird_vlm.dialects.written import number_spans
from bird_vlm.errors import GrammarError


def picture_answer(
    dialect: BoxDialect, label: str, presence: float, written: Written, shown: ShownPicture
) -> PictureAnswer:
    """The boxes of `label` in an answer, each with the certainty of its numbers.

    An answer that is not in the dialect is unreadable, never an error.
    """
    try:
        boxes_norm = dialect.parse(written.text, shown, label).boxes_norm
    except GrammarError:
        return PictureAnswer(presence, written.text, unreadable=True)
    spans = number_spans(dialect, written.text, shown)
    everything = [(0, len(written.text))]  # where numbers are spelled in a way of their own
    scores = tuple(written.certainty_of(spans.get(box, everything)) for box in boxes_norm)
    return PictureAnswer(presence, written.text, boxes_norm, scores)
