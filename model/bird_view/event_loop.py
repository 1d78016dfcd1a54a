"""Work off the event loop of the page's server, its results on it.

Knows nothing about the work, nor about the page beyond its state.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

from trame_server.state import State

from bird_view.BiRDLib.background import Background


class LoopBackground(Background):
    """Starts work on threads; what they post runs on `loop` and reaches the page at once."""

    def __init__(self, loop: AbstractEventLoop, state: State) -> None:
        super().__init__()
        self._loop = loop
        self._state = state

    def post(self, callback: Callable[[], None]) -> None:
        """Asks for `callback()` on the loop. Called from any thread."""
        super().post(callback)
        self._loop.call_soon_threadsafe(self._pump)

    def _pump(self) -> None:
        with self._state:
            self.pump(wait_s=0)
