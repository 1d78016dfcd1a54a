"""Where the answers stand in a chat that a template wrote, for templates that do not mark them.

Knows text; knows nothing about tokens or any one template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bird_vlm.errors import BirdError

Message = dict[str, Any]
Span = tuple[int, int]  # characters, the second not included


def chat_and_answers(
    messages: Sequence[Message], render: Callable[[Sequence[Message], bool], str]
) -> tuple[str, list[Span]]:
    """The chat, and where each answer stands in it, its end token included.

    `render(messages, asking)` writes the messages, with `asking` also what an answer follows. So
    an answer is what comes to a chat that asks, and that is where a model begins to write. Raises
    BirdError where the template writes anything else in between, or changes what it wrote before.
    """
    spans, chat = [], ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked, told = render(messages[:number], True), render(messages[: number + 1], False)
        if not (asked.startswith(chat) and told.startswith(asked + message["content"])):
            raise BirdError(
                "model: its chat template does not write answers as they are where it asks for "
                "them; take the family's instruct model, not one that thinks aloud"
            )
        spans.append((len(asked), len(told.rstrip())))
        chat = told
    return chat, spans
