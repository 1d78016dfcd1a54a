"""Services without HTTP for the tests of jobs: scripted models, stored volumes, and waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bird_server.jobs.job import Job
from bird_server.jobs.journal import Journal
from bird_server.jobs.questions import BatchQuestion, GroundQuestion
from bird_server.jobs.queue import QueueLimits
from bird_server.review.review import Review
from bird_server.service import Service, in_use, use
from bird_server.volumes.volumes_store import StoreLimits, VolumesStore
from scripted import PRESENT, ScriptedCard, ScriptedModel, nifti, wait_until

SLICES = 8  # of the volume, in the axial plane
SMALL = QueueLimits(jobs=4, jobs_per_client=3, open_per_client=2)


class Device(ScriptedModel):
    """A scripted model on one device, which writes down which slices it answered."""

    def __init__(self, name: str = "cpu", journey: list | None = None) -> None:
        super().__init__()
        self.card = ScriptedCard(device=name)
        self.journey = [] if journey is None else journey
        self.crashes_with: BaseException | None = None
        self.thread: str | None = None

    def grounding_events(self, volume, request):
        for event in super().grounding_events(volume, request):
            self.thread = threading.current_thread().name
            if self.crashes_with is not None:
                raise self.crashes_with
            self.journey.append((request.labels[0], getattr(event, "done", "result")))
            yield event


def a_service(studies: Path, *devices: Device, limits: QueueLimits | None = None) -> Service:
    """One worker per device; a journal, reviews and volumes in `studies`."""
    by_name = {device.card.device: device for device in devices}
    return Service(
        VolumesStore(studies / ".bird" / "volumes", StoreLimits(upload_bytes=1 << 20)),
        lambda _model, device: by_name[device],
        devices=list(by_name),
        review=Review.open(studies),
        journal=Journal(studies / ".bird" / "jobs"),
        limits=limits,
    )


@contextmanager
def services_in(studies: Path) -> Iterator[Callable[..., Service]]:
    """Makes services that are closed in the end, whatever their devices wait for."""
    made, all_devices, before = [], [], in_use()

    def make(*devices: Device, **more) -> Service:
        made.append(a_service(studies, *devices, **more))
        all_devices.extend(devices)
        use(made[-1])
        return made[-1]

    yield make
    use(before)
    for device in all_devices:
        device.gate.release(1000)
    for service in made:
        service.close()


def stored_volume(service: Service, seed: int = 7, name: str = "scan.nii") -> str:
    """The id of a random volume of 12 x 10 x 8 voxels."""
    values = np.random.default_rng(seed).normal(size=(12, 10, SLICES)).astype(np.float32)
    with service.store.receive(name) as upload:
        upload.write(nifti(values).to_bytes())
        return service.keep(upload)[0].volume_id


def where(volume_id: str, label: str = PRESENT, **more) -> GroundQuestion:
    return GroundQuestion(volume_id=volume_id, labels=[label], **more)


def batch(*questions) -> BatchQuestion:
    return BatchQuestion(kind="batch", questions=list(questions))


def over_within(job: Job, seconds: float) -> bool:
    """Whether a job ends in time."""
    try:
        wait_until(lambda: job.is_over, seconds)
    except TimeoutError:
        return False
    return True


def until_over(*jobs: Job) -> None:
    wait_until(lambda: all(job.is_over for job in jobs), seconds=30)


def names(job: Job) -> list[str]:
    return [event.name for event in job.log.after(0)]
