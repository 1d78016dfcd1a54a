"""The language of boxes: norm boxes <-> the text that BiRD reads and writes.

    <ref>liver</ref><box>(52,180),(611,790)</box>
    <ref>lung</ref><box>(80,90),(410,880)</box><box>(560,95),(900,870)</box>
    The kidney is not present in the image.

Paper, section 3.1: `<ref>` marks the referred text, `<box>` the box, integers 0..1000.
Knows nothing about pictures, tokens or volumes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bird_vlm.boxes import NORM_MAX, BoxNorm
from bird_vlm.errors import GrammarError

REF_START, REF_END = "<ref>", "</ref>"
BOX_START, BOX_END = "<box>", "</box>"
MAX_BOXES = 4  # of one object on one picture; training keeps the largest, answers stop there
_BOX = re.compile(f"{BOX_START}(.*?){BOX_END}", re.DOTALL)
_REF = re.compile(f"{REF_START}(.*?){REF_END}", re.DOTALL)
_CORNER = r"\(\s*([0-9]{1,4})\s*,\s*([0-9]{1,4})\s*\)"
_CORNERS = re.compile(rf"{_CORNER}\s*,\s*{_CORNER}")
_ABSENT = re.compile(r"\bThe (?P<label>.+?) is not present in the image\b")


@dataclass(frozen=True)
class Grounding:
    """What a grounding answer says; no boxes means that the object is absent."""

    label: str  # as the model wrote it; "" where it named nothing
    boxes_norm: tuple[BoxNorm, ...]


def format_box(box_norm: BoxNorm) -> str:
    """
    >>> format_box((1, 2, 30, 400))
    '<box>(1,2),(30,400)</box>'
    """
    x0, y0, x1, y1 = box_norm
    return f"{BOX_START}({x0},{y0}),({x1},{y1}){BOX_END}"


def format_present(label: str, boxes_norm: tuple[BoxNorm, ...]) -> str:
    """The answer that grounds `label` in one or more boxes."""
    return f"{REF_START}{label}{REF_END}" + "".join(map(format_box, boxes_norm))


def format_absent(label: str) -> str:
    """The answer for an object that the picture does not show."""
    return f"The {label} is not present in the image."


def parse_grounding(text: str) -> Grounding:
    """Read an answer to "where is ...?".

    Prose around the boxes is allowed. Raises GrammarError, with the text in it, where there is
    neither a well-formed box nor the sentence of absence, or both; where a box or a reference is
    cut off, a box is out of range, empty or has swapped corners; or where two objects are named.
    """
    labels = _bodies(_REF, (REF_START, REF_END), text)
    boxes_norm = tuple(_parse_corners(b, text) for b in _bodies(_BOX, (BOX_START, BOX_END), text))
    absent = _ABSENT.search(text)
    if bool(boxes_norm) == bool(absent):
        found = "both a box and an absence" if absent else "neither a box nor an absence"
        raise GrammarError(f"answer: {found} in {text!r}")
    if absent:
        label = absent.group("label").replace(REF_START, "").replace(REF_END, "")
        return Grounding(label.strip(), ())
    if len(set(labels)) > 1:
        raise GrammarError(f"answer: names {len(set(labels))} objects instead of one in {text!r}")
    return Grounding(labels[0] if labels else "", boxes_norm)


def _bodies(pattern: re.Pattern[str], marks: tuple[str, str], text: str) -> list[str]:
    bodies = pattern.findall(text)
    if any(text.count(mark) != len(bodies) for mark in marks):
        raise GrammarError(f"answer: {marks[0]} without {marks[1]} or the reverse in {text!r}")
    return [body.strip() for body in bodies]


def _parse_corners(body: str, text: str) -> BoxNorm:
    match = _CORNERS.fullmatch(body)
    if match is None:
        raise GrammarError(f"answer: malformed box {body!r} in {text!r}")
    x0, y0, x1, y1 = map(int, match.groups())
    if max(x0, y0, x1, y1) > NORM_MAX:
        raise GrammarError(f"answer: box {body!r} exceeds {NORM_MAX} in {text!r}")
    if x1 <= x0 or y1 <= y0:
        raise GrammarError(f"answer: box {body!r} is empty or has swapped corners in {text!r}")
    return x0, y0, x1, y1
