"""A finding's state from its history: the events in order, each changing what it names.

Knows nothing about databases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bird_server.review.records import Content, Event, Status


@dataclass(frozen=True)
class State:
    """Where a history has led."""

    content: Content
    status: Status
    revision: int
    reviewer: str | None
    time: str
    comment: str


def after(content: Content, event: Event) -> State:
    """The state that `event` leaves behind; `content` was claimed before it."""
    return State(
        event.content or content,
        event.status,
        event.revision,
        event.reviewer,
        event.time,
        event.comment,
    )


def state_after(history: Sequence[Event]) -> State | None:
    """Where a history in order has led; None where no event of it has a content."""
    contents = [event.content for event in history if event.content]
    return after(contents[-1], history[-1]) if contents else None


def original_of(history: Sequence[Event]) -> Content | None:
    """The last claim of the model, before any person changed it."""
    claims = [e.content for e in history if e.content and e.kind in ("proposed", "reproposed")]
    return claims[-1] if claims else None
