"""The one model and the stored volumes of this process, and questions to the one about the others.

One inference runs at a time; a long grounding gives way to other questions between its batches.
Knows nothing about HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from cachetools import LRUCache

from bird_server.fair_lock import FairLock
from bird_server.model import BirdModel, Card, GroundingEvents, Model
from bird_server.volumes_store import Upload, VolumesStore, limit_from_environment
from bird_vlm.contract import (
    AskingResult,
    GroundingRequest,
    Plane,
    ReferringRequest,
    ReferringResult,
)
from bird_vlm.errors import BadVolumeError
from bird_vlm.running import Running
from bird_vlm.volumes import Volume, read_volume

DEFAULT_MODEL = "bird-mini"
VOLUMES_IN_MEMORY = 3


class Service:
    """Answers questions about stored volumes; safe to call from many threads."""

    def __init__(self, store: VolumesStore, load_model: Callable[[], Model]) -> None:
        self.store = store
        self._load_model = load_model
        self._model: Model | None = None
        self._loading = threading.Lock()
        self._device = FairLock()
        self._volumes: LRUCache[str, Volume] = LRUCache(VOLUMES_IN_MEMORY)
        self._reading = threading.Lock()

    @property
    def model(self) -> Model:
        """The model, loaded at the first call. Raises CheckpointError."""
        with self._loading:
            if self._model is None:
                self._model = self._load_model()
            return self._model

    @property
    def card(self) -> Card:
        return self.model.card

    def keep(self, upload: Upload) -> tuple[Volume, bool]:
        """Stores a whole upload; its volume, and whether it is new. Raises BadVolumeError."""
        if self.store.holds(upload.volume_id):
            return self.volume(upload.volume_id), False
        upload.flush()
        volume = read_named(upload.path, upload.name)
        self.store.keep(upload)
        with self._reading:
            self._volumes[upload.volume_id] = volume
        return volume, True

    def volume(self, volume_id: str) -> Volume:
        """A stored volume; the last few stay in memory. Raises UnknownVolumeError."""
        path = self.store.path(volume_id)
        with self._reading:
            if volume_id not in self._volumes:
                self._volumes[volume_id] = read_named(path, volume_id)
            return self._volumes[volume_id]

    def ground(self, volume: Volume, request: GroundingRequest) -> GroundingEvents:
        """Progress per batch, at last the result; closing it cancels before the next batch."""
        events = self.model.grounding_events(volume, request)
        try:
            while True:
                with self._device:
                    event = next(events, None)
                if event is None:
                    return
                yield event
        finally:
            events.close()

    def refer(self, volume: Volume, request: ReferringRequest) -> ReferringResult:
        with self._device:
            return self.model.refer(volume, request)

    def ask(
        self,
        volume: Volume,
        question: str,
        plane: Plane,
        index: int,
        window: tuple[float, float] | None,
    ) -> AskingResult:
        with self._device:
            return self.model.ask(volume, question, plane, index, window)


def read_named(path: Path, name: str) -> Volume:
    """The volume at `path`; errors call it `name`, since places on the server are no one's concern.

    Raises BadVolumeError.
    """
    try:
        return read_volume(path)
    except BadVolumeError as error:
        raise BadVolumeError(str(error).replace(str(path), name)) from error


_in_use: Service | None = None


def open_service(studies: Path, model: str, running: Running) -> Service:
    """A service that keeps uploads beside the studies, in a folder that is no image folder."""
    store = VolumesStore(studies / ".bird" / "volumes", limit_from_environment())
    return Service(store, lambda: BirdModel.load(model, running))


def use(service: Service | None) -> None:
    """Makes `service` the one that every route of this process answers from."""
    global _in_use
    _in_use = service


def in_use() -> Service | None:
    return _in_use


def current() -> Service:
    """The service in use; there is one from the server's start to its end."""
    if _in_use is None:
        raise RuntimeError("no service is in use: start with `python -m bird_server`")
    return _in_use


def known_labels() -> list[str]:
    """All labels that the model in use knows, sorted; empty = open vocabulary."""
    return sorted({label for labels in current().card.labels.values() for label in labels})
