"""A lock that goes to whoever has waited longest."""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """As `threading.Lock`, but nobody who comes later goes first.

    Whoever lets go and at once asks again, as a long grounding does between its batches, stands
    behind those who wait.
    """

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._door:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()

    def __exit__(self, *_: object) -> None:
        with self._door:
            if self._waiting:
                self._waiting.popleft().set()  # stays taken
            else:
                self._taken = False
