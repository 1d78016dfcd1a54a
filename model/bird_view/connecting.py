"""The part of the page about the server: starts it where it is ours, says hello, asks for consent.

Knows nothing about widgets, nor about what is asked.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING

from bird_view.BiRDLib.errors import BirdError
from bird_view.section import Section
from bird_view.servers import OwnServer, RunningServer, ServerProcess

if TYPE_CHECKING:
    from bird_view.BiRDLib.answers import Health
    from bird_view.viewer import Viewer

_TOLD_LINES = 3  # of what a server said that did not start


class Connecting(Section):
    """One server, as it was chosen on the command line."""

    def __init__(self, viewer: Viewer, chosen: RunningServer | OwnServer) -> None:
        super().__init__(viewer)
        self._chosen = chosen
        self._process: ServerProcess | None = None
        self._said: deque[str] = deque(maxlen=_TOLD_LINES)
        if isinstance(chosen, OwnServer):
            background = self.core.background
            self._process = ServerProcess(background, chosen, self._heard, self._ready, self._ended)

    @property
    def starting(self) -> bool:
        """Whether our own server is on its way, and nothing can be asked yet."""
        running = self._process is not None and self._process.running
        return running and self.core.client is None and not self.core.busy

    def connect(self) -> None:
        """Says hello to the server, after starting it where it is ours."""
        if isinstance(self._chosen, RunningServer):
            self.page.server = "Connecting ..."
            self._hello(self._chosen.url, self._chosen.token)
        else:
            self.page.server = "Starting a server ..."
            self.attempt(self._process.start, sys.executable, self._chosen.studies)
        self.viewer.update()

    def cancel(self) -> None:
        """Gives up a server that is on its way."""
        if self.starting:
            self._process.stop()

    def close(self) -> None:
        """Ends the server where it is ours."""
        if self._process is not None:
            self._process.close()

    def allow_remote(self, allowed: bool) -> None:
        """The user lets images leave this computer, or no longer."""
        self.core.allow_remote = bool(allowed)
        self.viewer.update()

    def update(self) -> None:
        self.page.connected = self.core.health is not None
        self.page.busy = self.core.busy or self.starting

    def failed(self, error: BirdError) -> None:
        self.page.server = "Not connected"
        super().failed(error)

    def _hello(self, url: str, token: str) -> None:
        self.core.connect(url, token, self._connected, self.failed)

    def _connected(self, health: Health) -> None:
        self.page.server = f"{health.model} on {health.device}"
        self.page.remote = not self.core.client.address.is_loopback
        self.viewer.connected(health)

    def _heard(self, line: str) -> None:
        self._said.append(line)
        print(line, file=sys.stderr, flush=True)

    def _ready(self, url: str, token: str) -> None:
        self._hello(url, token)
        self.viewer.update()

    def _ended(self, code: int) -> None:
        """Our own server has stopped, before it answered or since."""
        self.core.disconnect()
        words = " ".join(self._said)
        self.failed(BirdError(f"The server ended ({code}): {words}"))
