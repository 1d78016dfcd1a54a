"""The service of a studies folder, with everything that it keeps beside the studies.

    STUDIES/.bird/volumes            uploads
    STUDIES/.bird/jobs               unfinished jobs and the latest results
    STUDIES/.bird/review.sqlite3     findings, and what people made of them
    STUDIES/.bird/models             versions of the model

Knows nothing about HTTP.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bird_server.jobs.journal import Journal
from bird_server.learning.model_versions import versions_of
from bird_server.model import BirdModel, Model, version_of
from bird_server.review.review import Review
from bird_server.service import Service
from bird_server.volumes.volumes_store import VolumesStore, limits_from_environment
from bird_vlm.running import Running


def open_service(studies: Path, model: str, running: Running) -> Service:
    """A service that goes on where the last one on these studies ended.

    The version of `model` that answered last answers again. `running.device` may name several
    devices, as in "cuda:0,cuda:1": each gets a worker. Loads the model only where a version takes
    its place. Raises BirdError for settings, for a model that is not there, and for reviews or
    versions that cannot be opened.
    """
    private = studies / ".bird"
    devices = (running.device or "").split(",")

    def load(name: str, device: str | None) -> Model:
        return BirdModel.load(name, replace(running, device=device))

    limits, root = limits_from_environment(), version_of(model, running)
    review = Review.open(studies)
    service = Service(
        VolumesStore(private / "volumes", limits, spared=review.store.uploads_in_review),
        load,
        model,
        [device.strip() or None for device in devices],
        review,
        Journal(private / "jobs"),
        root=root,
    )
    versions_of(service).restore()
    return service
