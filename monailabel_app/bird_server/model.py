"""What the server asks of a model, and the BiRD engine behind that.

The true seam of the server: tests put a scripted model here. Knows nothing about HTTP or storage;
torch is imported only when an engine is loaded.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol

from bird_server.review.fingerprint import DIGITS, fingerprint
from bird_vlm.contract import (
    AskingResult,
    GroundingRequest,
    GroundingResult,
    Plane,
    Progress,
    ReferringRequest,
    ReferringResult,
)

if TYPE_CHECKING:
    from bird_vlm.endpoint import Usage
    from bird_vlm.engine import Engine
    from bird_vlm.running import Running
    from bird_vlm.volumes import Volume

logger = logging.getLogger(__name__)
GroundingEvents = Generator[Progress | GroundingResult, None, None]


class Card(Protocol):
    """What a model says about itself."""

    id: str
    labels: dict[str, list[str]]  # modality -> labels; empty = open vocabulary
    device: str
    note: str  # what whoever uses it should know of its boxes


class Model(Protocol):
    """A model that answers questions about volumes; called by one thread at a time."""

    @property
    def card(self) -> Card: ...

    @property
    def version(self) -> str:
        """16 hex digits that tell these weights from all others."""

    def grounding_events(self, volume: Volume, request: GroundingRequest) -> GroundingEvents:
        """Progress per batch, at last the result. Raises BirdError before the first event."""

    def refer(self, volume: Volume, request: ReferringRequest) -> ReferringResult: ...

    def ask(
        self,
        volume: Volume,
        question: str,
        plane: Plane,
        index: int,
        window: tuple[float, float] | None,
    ) -> AskingResult:
        """An answer in words about slice `index`."""


class BirdModel:
    """The engine and the questions that `bird_vlm.volume` puts to it, as one `Model`."""

    def __init__(self, engine: Engine, version: str, used: Usage | None = None) -> None:
        """`used` counts what a server elsewhere answers, for the log."""
        from bird_vlm import volume  # imports torch

        self._engine, self.version, self._used = engine, version, used
        self._questions = volume

    @classmethod
    def load(cls, name: str, running: Running) -> BirdModel:
        """Loads the weights called `name` (a folder or the id of shipped weights).

        With `running.backend` it is the name of a model there. Raises CheckpointError where there
        is none.
        """
        from bird_vlm.engine import load_engine  # imports torch

        engine = load_engine(name, running)
        return cls(engine, version_of(name, running), engine.used if running.backend else None)

    @property
    def card(self) -> Card:
        return self._engine.card

    def grounding_events(self, volume: Volume, request: GroundingRequest) -> GroundingEvents:
        try:
            yield from self._questions.grounding_events(self._engine, volume, request)
        finally:
            if self._used is not None:
                logger.info("since the start, %s: %s", self.card.device, self._used)

    def refer(self, volume: Volume, request: ReferringRequest) -> ReferringResult:
        return self._questions.refer(self._engine, volume, request)

    def ask(
        self,
        volume: Volume,
        question: str,
        plane: Plane,
        index: int,
        window: tuple[float, float] | None,
    ) -> AskingResult:
        return self._questions.ask(self._engine, volume, question, plane, index, window)


def version_of(name: str, running: Running) -> str:
    """The fingerprint of a model's folder; of its address, where a server elsewhere runs it."""
    if running.backend is not None:
        address = f"{running.backend.url}\0{name}".encode()
        return hashlib.blake2b(address, digest_size=DIGITS // 2).hexdigest()
    from bird_vlm.catalogue.names import model_path

    return fingerprint(model_path(name))
