"""The box dialects: how each model family is asked for boxes, and how it writes them.

One file per family, `dialect.py` says what they share. Importing them loads no model library.
"""

from __future__ import annotations

from bird_vlm.dialects.bird import BIRD
from bird_vlm.dialects.dialect import BoxDialect, PresenceQuestion, refuse_marks
from bird_vlm.dialects.gemma3 import GEMMA3
from bird_vlm.dialects.paligemma import PALIGEMMA
from bird_vlm.dialects.qwen3 import QWEN3
from bird_vlm.dialects.qwen25 import QWEN25, shown_to_qwen
from bird_vlm.dialects.radgrounder import RADGROUNDER
from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.errors import BadRequestError

__all__ = [
    "DIALECTS",
    "BoxDialect",
    "PresenceQuestion",
    "ShownPicture",
    "dialect_of",
    "refuse_marks",
    "shown_to_qwen",
]

DIALECTS: dict[str, BoxDialect] = {
    dialect.name: dialect for dialect in (BIRD, QWEN25, QWEN3, PALIGEMMA, RADGROUNDER, GEMMA3)
}


def dialect_of(name: str) -> BoxDialect:
    """The dialect of that name; BadRequestError with the known names where there is none."""
    if name not in DIALECTS:
        raise BadRequestError(f"dialect: {name!r} is unknown; known are {', '.join(DIALECTS)}")
    return DIALECTS[name]
