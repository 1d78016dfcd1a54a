"""A look at the disk that may hang: one thread at most, however many ask.

Knows nothing about what is looked at.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedCall(Generic[T]):
    """Calls in a thread of its own; whoever asks meanwhile waits for the same call.

    Takes no worker thread from the requests. Who stops waiting leaves the call to the others.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._under_way: Future[T] | None = None

    async def answer(self) -> T:
        """What the call returns, or raises."""
        return await asyncio.shield(asyncio.wrap_future(self._begun()))

    def _begun(self) -> Future[T]:
        with self._lock:
            if self._under_way is None or self._under_way.done():
                self._under_way = Future()
                self._under_way.set_running_or_notify_cancel()  # nobody can cancel it any more
                threading.Thread(target=self._run, args=(self._under_way,), daemon=True).start()
            return self._under_way

    def _run(self, told: Future[T]) -> None:
        try:
            told.set_result(self._call())
        except Exception as error:
            told.set_exception(error)
