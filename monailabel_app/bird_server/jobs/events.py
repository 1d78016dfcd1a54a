"""What a job tells while it is answered, kept so that any number of listeners can read it.

Each event is encoded once, and counted in bytes. Knows nothing about jobs or HTTP.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

LAST = ("result", "error", "cancelled", "stopped")  # nothing comes after these


@dataclass(frozen=True)
class Event:
    """One line of the log."""

    number: int  # from 1 up, within one attempt
    name: str  # progress, item, or one of LAST
    fields: str  # a JSON object

    @property
    def data(self) -> str:
        """The fields, with the name as a first one called "event"."""
        rest = "}" if self.fields == "{}" else f", {self.fields[1:]}"
        return f'{{"event": "{self.name}"{rest}'


class EventLog:
    """Events in the order in which they came; written by one thread, read by many."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._lock = threading.RLock()
        self._wakers: set[Callable[[], None]] = set()
        self.bytes = 0

    def add(self, name: str, **fields: Any) -> Event | None:
        """The event, or None where the log has ended: then it is too late for it.

        Raises ValueError for numbers that JSON has not.
        """
        return self.add_encoded(name, encoded(fields))

    def add_encoded(self, name: str, fields: str) -> Event | None:
        """As `add`, for fields that are a JSON object already."""
        with self._lock:
            if self._ended():
                return None
            event = Event(len(self._events) + 1, name, fields)
            self._events.append(event)
            self.bytes += len(fields)
            wakers = list(self._wakers)
        for wake in wakers:
            wake()
        return event

    @property
    def last(self) -> Event | None:
        """The event that ended the log; None while more may come."""
        with self._lock:
            return self._events[-1] if self._ended() else None

    def after(self, number: int) -> list[Event]:
        """What there is after event `number` (0 = all)."""
        with self._lock:
            return self._events[max(0, number) :]

    async def follow(
        self, number: int = 0, patience_s: float = 15.0
    ) -> AsyncIterator[Event | None]:
        """Events after `number` as they come, to the last; None after each `patience_s` without."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ready.set)

        with self._lock:
            self._wakers.add(wake)
        try:
            while True:
                ready.clear()
                for event in self.after(number):
                    number = event.number
                    yield event
                last = self.last
                if last is not None and number >= last.number:
                    return
                if not await _within(ready, patience_s):
                    yield None
        finally:
            with self._lock:
                self._wakers.discard(wake)

    def _ended(self) -> bool:
        return bool(self._events) and self._events[-1].name in LAST


def encoded(fields: dict[str, Any]) -> str:
    """Raises ValueError for numbers that JSON has not."""
    return json.dumps(fields, allow_nan=False)


async def _within(ready: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(ready.wait(), seconds)
    except (TimeoutError, asyncio.TimeoutError):
        return False
    return True
