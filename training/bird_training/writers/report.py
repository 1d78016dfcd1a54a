"""What became of every picture that a language model was asked about: counts, and a list on disk.

A line of the list is a picture that is not wholly the language model's:
{"id": "ct_...", "outcome": "offline", "parts": [{"part": "RC describe", "reason": "..."}]}
A build that was interrupted may list a picture twice; the later line holds.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["llm", "offline", "skipped"]
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|<box>.*?</box>|\d+")


@dataclass
class Report:
    """Counts over pictures and their parts; safe to use from several threads."""

    path: Path | None = None  # of the list; it is appended to, so an interrupted build goes on
    pictures: Counter[str] = field(default_factory=Counter)  # by outcome
    accepted: int = 0  # captions, and questions with their answers
    refused: int = 0  # of all that the language model wrote, asked again or not
    reasons: Counter[str] = field(default_factory=Counter)  # of refusals, what is quoted left out
    given_up: int = 0  # parts refused to the last try, or never answered
    unanswered: int = 0  # requests without an answer
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, accepted: int, refused: Iterable[str]) -> None:
        """One answer was read: so many parts are good, the others refused for these reasons."""
        kinds = [_QUOTED.sub("...", reason) for reason in refused]
        with self._lock:
            self.accepted += accepted
            self.refused += len(kinds)
            self.reasons.update(kinds)

    def no_answer(self) -> None:
        """A request failed for good."""
        with self._lock:
            self.unanswered += 1

    def close_picture(
        self, picture: str, outcome: Outcome, lost: Sequence[tuple[str, str]]
    ) -> None:
        """The picture is done; `lost` are the parts that are not the language model's, and why."""
        parts = [{"part": part, "reason": reason} for part, reason in lost]
        line = json.dumps({"id": picture, "outcome": outcome, "parts": parts})
        with self._lock:
            self.pictures[outcome] += 1
            self.given_up += len(lost)
            if self.path is not None and lost:
                with self.path.open("a", encoding="utf-8") as listed:
                    listed.write(line + "\n")

    def totals(self) -> dict[str, Any]:
        """The counts as JSON."""
        with self._lock:
            return {
                "pictures": dict(self.pictures),
                "accepted": self.accepted,
                "refused": self.refused,
                "reasons": dict(self.reasons.most_common(50)),
                "given_up": self.given_up,
                "unanswered": self.unanswered,
            }
