"""How a worker learns that its work is no longer wanted.

Knows nothing about what the work is.
"""

from __future__ import annotations

from multiprocessing.synchronize import Event

_listening: list[Event] = []


class Stopped(Exception):  # noqa: N818
    """The work was called off from outside."""


def listen_for(stop: Event) -> None:
    """From now on, `check_stop` in this process raises once `stop` is set."""
    _listening[:] = [stop]


def check_stop() -> None:
    """Raises Stopped where the work was called off."""
    if any(stop.is_set() for stop in _listening):
        raise Stopped
