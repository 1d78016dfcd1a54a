"""Reads the JSON out of what a language model says around it.

Knows nothing about whether its content is true.
"""

from __future__ import annotations

import json
import re
from typing import Any

from bird_training.writers.checks import RefusedError
from bird_vlm.chat import ChatAnswer

_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


def read_caption(answer: ChatAnswer) -> object:
    """What stands under "caption". Raises RefusedError where there is none."""
    reply = _read_object(answer)
    if "caption" not in reply:
        raise RefusedError('reply: has no "caption"')
    return reply["caption"]


def read_items(answer: ChatAnswer) -> dict[int, dict[str, Any]]:
    """The items by their numbers. Raises RefusedError where there are none, or a number twice."""
    items = _read_object(answer).get("items")
    if not isinstance(items, list):
        raise RefusedError('reply: has no list "items"')
    numbered: dict[int, dict[str, Any]] = {}
    for item in items:
        number = item.get("n") if isinstance(item, dict) else None
        if not isinstance(number, int) or number in numbered:
            raise RefusedError('reply: every item needs an "n" of its own')
        numbered[number] = item
    return numbered


def _read_object(answer: ChatAnswer) -> dict[str, Any]:
    if answer.finish == "length":
        raise RefusedError("reply: was cut off; be shorter")
    text = _THOUGHT.sub("", answer.text)
    start, end = text.find("{"), text.rfind("}")
    try:
        reply = json.loads(text[start : end + 1] if 0 <= start < end else text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"reply: is not JSON ({str(error)[:80]})") from error
    if not isinstance(reply, dict):
        raise RefusedError("reply: is not a JSON object")
    return reply
