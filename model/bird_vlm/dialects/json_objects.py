"""JSON objects out of what a chat model wrote around them.

    Here it is:
    ```json
    [
        {"bbox_2d": [52, 180, 611, 790], "label": "liver"}
    ]
    ```

Knows nothing about boxes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from bird_vlm.errors import GrammarError

_DECODER = json.JSONDecoder(strict=False)  # a label may hold a line break
_OPENING = re.compile(r'\{|\[(?=\s*(?:[\[\]{"0-9.-]|$))')  # not the bracket of "[see below]"
_THOUGHTS = {"<think>": "</think>", "<unused94>": "<unused95>"}  # Qwen3-VL, MedGemma 1.5


def read_objects(text: str) -> list[dict[str, Any]]:
    """The objects of all lists in `text`; an object outside of a list counts as a list of one.

    Code fences, prose around and thoughts before are passed over; `[]` and `{}` are no objects.
    Raises GrammarError, with `text` in it, where there is no JSON, where it is malformed or cut
    off, and where a list holds anything but objects.
    """
    values = list(_values(without_thoughts(text), text))
    if not values:
        raise GrammarError(f"answer: neither JSON nor an absence in {text!r}")
    return [item for value in values for item in _objects(value, text)]


def without_thoughts(text: str) -> str:
    """What follows a model's thinking aloud; GrammarError where the thinking does not end."""
    for start, end in _THOUGHTS.items():
        answer = text.rpartition(end)[2]
        if start in answer:
            raise GrammarError(f"answer: still thinking when it was cut off in {text!r}")
        text = answer
    return text


def _values(answer: str, text: str) -> Iterator[Any]:
    position = 0
    while opening := _OPENING.search(answer, position):
        try:
            value, position = _DECODER.raw_decode(answer, opening.start())
        except (ValueError, RecursionError) as error:
            raise GrammarError(
                f"answer: malformed or cut off JSON ({error}) in {text!r}"
            ) from error
        yield value


def _objects(value: Any, text: str) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else [value] if value else []
    for item in items:
        if not isinstance(item, dict):
            raise GrammarError(f"answer: {item!r} stands where an object should in {text!r}")
    return items
