"""Which BiRD server answers: one that runs somewhere, or one of our own.

Knows the words that `python -m bird_server` takes; nothing about HTTP or the page.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bird_view.BiRDLib.background import Background
from bird_view.BiRDLib.localserver import LocalServer


@dataclass(frozen=True)
class RunningServer:
    """Runs somewhere, and goes on when we stop."""

    url: str
    token: str = ""


@dataclass(frozen=True)
class OwnServer:
    """A process of our own, that ends when we do."""

    model: str
    studies: Path  # where it keeps scans and decisions
    options: tuple[str, ...] = ()  # further words, such as ("--device", "cpu")

    @property
    def words(self) -> list[str]:
        return ["--model", self.model, *self.options]


class ServerProcess(LocalServer):
    """BiRDLib's LocalServer with a model and options."""

    def __init__(
        self,
        background: Background,
        own: OwnServer,
        on_line: Callable[[str], None],
        on_ready: Callable[[str, str], None],
        on_end: Callable[[int], None],
    ) -> None:
        super().__init__(background, on_line, on_ready, on_end)
        self._own = own

    def _started(self, words: list[str]) -> subprocess.Popen[str]:
        return super()._started([*words, *self._own.words])
