"""The workers of a server, one per device, and the model that they all ask.

Another model is loaded beside the one in use and handed out between two batches: jobs under way
end with the model they began with. A worker that crashes is replaced. Knows nothing about HTTP.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from bird_server.jobs.queue import FairQueue
from bird_server.jobs.worker import Foreman, Worker
from bird_server.model import Model

Load = Callable[[str, str | None], Model]  # (model, device) -> ready to answer
logger = logging.getLogger(__name__)


class Crew:
    """Loads models and keeps one worker per device at work."""

    def __init__(
        self, load: Load, model: str, devices: Sequence[str | None], queue: FairQueue
    ) -> None:
        """`devices` are names for `load`; None = its own choice."""
        self.name = model
        self._load, self._devices, self._queue = load, devices, queue
        self._models: list[Model] = []
        self._workers: list[Worker] = []
        self._lock = threading.RLock()

    @property
    def is_loaded(self) -> bool:
        """Whether a model is in memory and somebody left to ask it."""
        return bool(self._models) and not self._is_lost()

    @property
    def model(self) -> Model:
        """The first device's, loaded at the first call. Raises CheckpointError."""
        return (self._models or self._loaded())[0]  # without waiting, once there is one

    def start(self, foreman: Foreman, lost: Callable[[], None]) -> None:
        """Puts a worker on each device, where there is none yet. Raises CheckpointError.

        `lost` is called when the last one is out and cannot be replaced.
        """
        if self._workers:
            return
        with self._lock:
            if not self._workers:
                self._foreman, self._lost = foreman, lost
                self._workers = [self._hired(model) for model in self._loaded()]
                for worker in self._workers:
                    worker.start()

    def swap(self, name: str) -> None:
        """Raises what loading raises; then everything is as it was."""
        fresh = [self._load(name, device) for device in self._devices]
        with self._lock:
            self.name, self._models = name, fresh
            for place, worker in enumerate(self._workers):
                worker.model = fresh[place]
        logger.info("model %s takes over", name)

    def workers(self) -> list[dict[str, str]]:
        """Device and state (idle, busy, out) of each."""
        return [{"device": w.device, "state": w.state} for w in self._workers]

    def join(self, seconds: float) -> None:
        """Once the queue is closed: until each has ended the batch that it is at."""
        end = time.monotonic() + seconds
        for worker in list(self._workers):
            worker.join(max(0.0, end - time.monotonic()))

    def _loaded(self) -> list[Model]:
        with self._lock:
            if not self._models:
                self._models = [self._load(self.name, device) for device in self._devices]
            return self._models

    def _hired(self, model: Model) -> Worker:
        return Worker(model.card.device, model, self._queue, self._foreman, self._replace)

    def _replace(self, worker: Worker) -> None:
        """A new thread with the model loaded anew, in the place of one that broke down."""
        try:
            while not self._is_replaced(worker):
                logger.info("another model came while worker %s was replaced", worker.device)
        except Exception:
            logger.exception("worker %s cannot be replaced", worker.device)
            for job in self._queue.withdraw_all(worker):
                self._foreman.fail(job, worker.crash())
            if self._is_lost():
                self._lost()

    def _is_replaced(self, worker: Worker) -> bool:
        """False where another model took over while this one was loaded."""
        name, place = self.name, self._workers.index(worker)
        model = self._load(name, self._devices[place])
        with self._lock:
            if self.name != name:
                return False
            self._models[place] = model
            self._workers[place] = self._hired(model)
        self._queue.hand_over(worker, self._workers[place])
        self._workers[place].start()
        return True

    def _is_lost(self) -> bool:
        return bool(self._workers) and all(worker.is_out for worker in self._workers)
