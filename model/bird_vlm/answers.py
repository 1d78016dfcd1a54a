"""What a model says about one picture."""

from __future__ import annotations

from dataclasses import dataclass

from bird_vlm.boxes import BoxNorm


@dataclass(frozen=True)
class PictureAnswer:
    """Where one object is on one picture."""

    presence: float  # 0..1
    text: str  # what the model wrote; "" where the object was taken as absent
    boxes_norm: tuple[BoxNorm, ...] = ()
    scores: tuple[float, ...] = ()  # 0..1 per box: geometric mean over its numbers' probabilities
    unreadable: bool = False  # the text is not in the language of boxes


@dataclass(frozen=True)
class TextAnswer:
    """Words about one picture."""

    text: str
    score: float  # 0..1: geometric mean over the tokens' probabilities
