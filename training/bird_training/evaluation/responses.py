"""What a response says, read by the rules of the paper's own evaluation scripts.

Knows text only: nothing about files, pictures or scores.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from bird_vlm.boxes import BoxNorm
from bird_vlm.grammar import BOX_END, BOX_START

Clean = Callable[[str], str]
ReadBoxes = Callable[[str], tuple[BoxNorm, ...]]
Claim = Literal["present", "absent", "unclear"]

_MARKERS = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
_BETWEEN_NEWLINES = re.compile(r"\n([^\n]*\S[^\n]*)\n")
_BOX = re.compile(f"{BOX_START}(.*?){BOX_END}", re.DOTALL)
_CORNERS = re.compile(r"\(([0-9]{1,9}),([0-9]{1,9})\),\(([0-9]{1,9}),([0-9]{1,9})\)")
_DENIAL = re.compile(
    r"\b(?:no|not|none|nothing|never|without|absent|absence|cannot|unable|lacks?|missing)\b|n't\b"
)


def clean_as_authors(response: str) -> str:
    """What counts of a response: its first sentence group, without the markers of the chat.

    Cut at ".<|im_end|>", stripped of markers, and reduced to the first text between two newlines
    where there is one.

    >>> clean_as_authors("A liver.<|im_end|>\\n<|im_start|>user")
    'A liver'
    >>> clean_as_authors("\\nA liver\\n and more")
    'A liver'
    """
    text = clean_markers(response.split(".<|im_end|>")[0])
    framed = _BETWEEN_NEWLINES.search(text)
    return (framed.group(1) if framed else text).strip()


def clean_markers(response: str) -> str:
    """The whole response without the markers of the chat, for models that write paragraphs."""
    for marker in _MARKERS:
        response = response.replace(marker, "")
    return response


def boxes_as_authors(text: str) -> tuple[BoxNorm, ...]:
    """The boxes of a text; () where none can be read.

    Inside `<box>` marks where there are any, else wherever `(x,y),(x,y)` stands. Malformed boxes
    are left out; swapped corners are kept, they overlap with nothing.

    >>> boxes_as_authors("<box>(1,2),(3,4)</box> and <box>(5,6)</box>")
    ((1, 2, 3, 4),)
    >>> boxes_as_authors("at (1,2),(3,4) (5,6),(7,8)")
    ((1, 2, 3, 4), (5, 6, 7, 8))
    """
    bodies = _BOX.findall(text) if BOX_START in text else [text]
    found = [match for body in bodies for match in _CORNERS.findall(body)]
    return tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in found)


def names_every_word(annotation: str, response: str) -> bool:
    """Whether every word of the annotation is in the response, whatever its case.

    >>> names_every_word("Left Kidney", "this is the KIDNEY on the left")
    True
    """
    said = response.lower()
    return all(word in said for word in annotation.lower().split())


def claim(text: str, read_boxes: ReadBoxes = boxes_as_authors) -> Claim:
    """Whether a grounding answer says that the object is there.

    A box, even a malformed one, says so; else words of denial say that it is not; a text with
    neither, such as an empty one, says nothing.
    """
    if BOX_START in text or read_boxes(text):
        return "present"
    return "absent" if _DENIAL.search(text.lower()) else "unclear"
