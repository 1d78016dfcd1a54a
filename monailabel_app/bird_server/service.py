"""The model, the stored volumes and the reviews of this process, and questions that join them.

Every question goes through the queue of `jobs`, so that one thread at a time asks a model and a
long grounding gives way to others between its batches. Knows nothing about HTTP.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from cachetools import LRUCache

from bird_server.jobs.crew import Crew, Load
from bird_server.jobs.ended import Ended
from bird_server.jobs.job import Job, Tap
from bird_server.jobs.jobs import Jobs
from bird_server.jobs.journal import Journal
from bird_server.jobs.questions import Kind
from bird_server.jobs.queue import FairQueue, QueueLimits
from bird_server.jobs.steps import Answer, Kept, Source, Steps, asking, grounding, referring
from bird_server.model import Card, GroundingEvents, Model
from bird_server.review.review import Review
from bird_server.volumes.archive import unpack_series
from bird_server.volumes.reading import read_named
from bird_server.volumes.store_errors import UnknownVolumeError
from bird_server.volumes.uploads import Upload
from bird_server.volumes.volumes_store import StoredVolume, VolumesStore
from bird_vlm.contract import (
    AskingResult,
    GroundingRequest,
    GroundingResult,
    Plane,
    ReferringRequest,
    ReferringResult,
    to_json,
)
from bird_vlm.errors import BirdError
from bird_vlm.volumes import Volume

DEFAULT_MODEL = "bird-mini"
BYTES_IN_MEMORY = 2 << 30  # of the voxels of volumes that were asked about last
INSIDE = "this process"  # as a client: the tasks of MONAI Label
logger = logging.getLogger(__name__)


class Service:
    """Answers questions about stored volumes; safe to call from many threads."""

    def __init__(
        self,
        store: VolumesStore,
        load: Load,
        model: str = DEFAULT_MODEL,
        devices: Sequence[str | None] = (None,),
        review: Review | None = None,
        journal: Journal | None = None,
        limits: QueueLimits | None = None,
        ended: Ended | None = None,
        root: str | None = None,
    ) -> None:
        """`load` makes a model ready on one of `devices`; None = its own choice.

        `root` is the fingerprint of `model`, where it is known before that is loaded.
        """
        self.root = root
        self.store, self.review = store, review
        queue = FairQueue(limits or QueueLimits())
        self._crew = Crew(load, model, devices, queue)
        self.jobs = Jobs(self._crew, queue, self, store, journal, ended)
        self._volumes: LRUCache[str, Volume] = LRUCache(BYTES_IN_MEMORY, _size_bytes)
        self._reading = threading.Lock()

    @property
    def model(self) -> Model:
        """The model in use, loaded at the first call. Raises CheckpointError."""
        return self._crew.model

    @property
    def card(self) -> Card:
        return self.model.card

    @property
    def version(self) -> str:
        """The fingerprint of the weights in use."""
        return self.model.version

    @property
    def model_name(self) -> str:
        """Name or folder of the model in use: what `swap` takes."""
        return self._crew.name

    @property
    def is_loaded(self) -> bool:
        """Whether a model is in memory and a worker left to ask it; loads nothing."""
        return self._crew.is_loaded

    def workers(self) -> list[dict[str, str]]:
        """Device and state (idle, busy, out) of each."""
        return self._crew.workers()

    def swap(self, model: str) -> None:
        """Loads `model` beside the one in use, then puts it in its place between two batches.

        Jobs under way end with the one they began with. Raises CheckpointError where it cannot be
        loaded; the old one stays.
        """
        self._crew.swap(model)

    def close(self) -> None:
        """Ends the batches at work and closes the reviews; may be called twice."""
        self.jobs.stop()
        if self.review is not None:
            self.review.store.close()

    def keep(self, upload: Upload) -> tuple[StoredVolume, bool]:
        """Stores a whole upload; what is known of it, and whether it is new.

        Raises BadVolumeError, BadArchiveError, StoreFullError.
        """
        is_new = not self._is_renewed(upload)
        if is_new:
            upload.flush()
            self._take_in(upload)
        return self.stored(upload.volume_id), is_new

    def stored(self, volume_id: str) -> StoredVolume:
        """What is known of a stored volume. Raises UnknownVolumeError."""
        if not self.store.is_described(volume_id):
            volume = self.volume(volume_id)
            self.store.describe(volume_id, volume_id, volume.digest, to_json(volume.geometry()))
        return self.store.about(volume_id)

    def digest_of(self, volume_id: str) -> str:
        """By which reviews know a stored volume. Raises UnknownVolumeError."""
        return self.stored(volume_id).volume_digest

    def volume(self, volume_id: str) -> Volume:
        """A stored volume; the last ones stay in memory.

        Raises UnknownVolumeError, and BadVolumeError where the file was damaged since.
        """
        path = self.store.use(volume_id)
        with self._reading:
            volume = self._volumes.get(volume_id)
            if volume is None:
                volume = read_named(path, volume_id)
                self._remember(volume_id, volume)
            return volume

    def remove(self, volume_id: str) -> None:
        """Raises UnknownVolumeError, VolumeInUseError."""
        self.store.remove(volume_id)
        with self._reading:
            self._volumes.pop(volume_id, None)

    def ground(
        self,
        volume: Volume,
        request: GroundingRequest,
        source: Source | None = None,
        client: str = INSIDE,
    ) -> GroundingEvents:
        """Progress per batch, at last the result; closing it cancels before the next batch.

        The result is kept for review where the source is told.
        """
        steps = partial(grounding, volume, source, request, self)
        yield from self._events("ground", steps, client)

    def refer(self, volume: Volume, request: ReferringRequest) -> ReferringResult:
        (result,) = self._events("refer", partial(referring, volume, request), INSIDE)
        return result

    def ask(
        self,
        volume: Volume,
        question: str,
        plane: Plane,
        index: int,
        window: tuple[float, float] | None,
    ) -> AskingResult:
        steps = partial(asking, volume, question, plane, index, window)
        (result,) = self._events("ask", steps, INSIDE)
        return result

    # What jobs need beside the devices.

    def sourced_volume(self, volume_id: str) -> tuple[Volume, Source]:
        """A stored volume. Raises UnknownVolumeError."""
        return self.volume(volume_id), Source(self.stored(volume_id).name, volume_id)

    def put_forward(
        self, volume: Volume, source: Source, result: GroundingResult, version: str
    ) -> Kept:
        """Proposes an answer for review; what goes wrong with that is a warning."""
        if self.review is None:
            return Kept()
        try:
            places = (source.volume_id, source.study)
            proposed = self.review.propose(volume, source.name, result, version, *places)
        except BirdError as error:
            logger.warning("an answer is not kept for review (%s)", type(error).__name__)
            return Kept(warnings=(f"this answer is not kept for review: {error}",))
        return Kept({"volume_digest": volume.digest, **asdict(proposed)})

    def told(self, error: Exception, job_id: str = "") -> dict[str, Any]:
        """`error` as its client should read it: status, error, detail, hint."""
        from bird_server.errors import problem_of  # which asks this module for labels

        problem = problem_of(error)
        if problem.error == "server_error":
            logger.error("job %s failed", job_id, exc_info=error)
            problem = replace(problem, detail=f"the server failed in job {job_id}")
        return {"status": problem.status, **problem.body()}

    def _is_renewed(self, upload: Upload) -> bool:
        """Its volume is stored already; it is called as this sender calls it, and kept longer."""
        named = [upload.volume_id]
        try:
            self.store.hold(named)
        except UnknownVolumeError:
            return False
        try:
            known = self.stored(upload.volume_id)
            self.store.describe(upload.volume_id, upload.name, known.volume_digest, known.geometry)
        finally:
            self.store.release(named)
        return True

    def _take_in(self, upload: Upload) -> None:
        place = upload.path
        if upload.suffix == ".zip":
            unpack_series(upload.path, upload.series)
            place = upload.series
        volume = read_named(place, upload.name)
        self.store.keep(upload, volume.digest, to_json(volume.geometry()))
        with self._reading:
            self._remember(upload.volume_id, volume)

    def _remember(self, volume_id: str, volume: Volume) -> None:
        if _size_bytes(volume) <= BYTES_IN_MEMORY:
            self._volumes[volume_id] = volume

    def _events(self, kind: Kind, steps: partial[Steps], client: str) -> GroundingEvents:
        tap: Tap = Tap()
        job = self.jobs.take_on(Job(kind, steps, client, tap=tap))
        try:
            while not isinstance(heard := tap.get(), Answer | Exception):
                yield heard.event
        finally:
            self.jobs.cancel(job)
        if isinstance(heard, Exception):
            raise heard
        yield heard.value


def _size_bytes(volume: Volume) -> int:
    return volume.array.nbytes


_in_use: Service | None = None


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
