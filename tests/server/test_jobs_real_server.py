"""Nothing scripted: a server process that is killed, told to stop, or finds a damaged volume."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

import bird_vlm
from bird_server.client import Client, RefusedError
from processes import START_S, Serving, serving

pytest.importorskip("monailabel", reason="monailabel is not installed (see README, server)")

WEIGHTS = Path(bird_vlm.__file__).parent / "weights" / "bird-mini"
LABEL = "right thalamus"
LABELS = 12  # with SLICES enough for a job of some seconds
SLICES = [0, 60]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.is_dir(), reason="bird-mini is not in this checkout"),
]


@pytest.fixture(scope="module")
def a_server(tmp_path_factory) -> Iterator[Serving]:
    """Every test starts it where it does not run, and leaves one that does."""
    with serving(tmp_path_factory.mktemp("studies")) as server:
        yield server


@pytest.fixture
def a_client(a_server) -> Client:
    return Client(a_server.url, name="a test", patience_s=START_S)


def a_scan(folder: Path, seed: int) -> Path:
    """120 slices of smooth noise."""
    values = np.random.default_rng(seed).normal(size=(96, 96, 120)).cumsum(2).astype(np.float32)
    path = folder / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


def where(volume_id: str, *labels: str, **more) -> dict:
    return {"kind": "ground", "volume_id": volume_id, "labels": list(labels or [LABEL])} | more


def without_times(result: dict) -> dict:
    return {name: value for name, value in result.items() if name != "timing_s"}


def a_long_job(client: Client, volume_id: str) -> str:
    """The id of a job that is not over when its first answers come."""
    known = client.health()["model"]["labels"].values()
    labels = sorted({name for names in known for name in names})[:LABELS]
    return client.submit(where(volume_id, *labels, slices=SLICES)).job_id


def test_after_kill_9_during_a_job_it_goes_on_and_nothing_is_lost(a_server, a_client, tmp_path):
    killed = a_server.process()
    volume_id = a_client.upload(a_scan(tmp_path, seed=5)).volume_id
    small = where(volume_id, slices=[50, 54])
    done = a_client.submit(small)
    list(a_client.events(done.job_id))
    before = a_client.result(done.job_id)
    job_id = a_long_job(a_client, volume_id)
    waiting = a_client.submit(small)
    events = a_client.events(job_id)
    first = next(events)

    a_server.signal(signal.SIGKILL)
    again = a_server.process()
    rest = list(events)  # the stream broke off and is taken up

    assert first.event_id.startswith("1-")
    assert (rest[-1].name, rest[-1].event_id.split("-")[0]) == ("result", "2")
    assert a_client.job(job_id).attempt == 2
    assert a_client.result(done.job_id) == before
    list(a_client.events(waiting.job_id))
    answered = a_client.result(waiting.job_id)["result"]
    assert without_times(answered) == without_times(before["result"])
    assert " ERROR " not in killed.output + again.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_streams_soon_and_the_job_goes_on_at_the_next_start(
    a_server, a_client, tmp_path, number
):
    stopped = a_server.process()
    job_id = a_long_job(a_client, a_client.upload(a_scan(tmp_path, seed=5)).volume_id)
    heard, ended = [], threading.Event()

    def listen() -> None:
        heard.extend(a_client.events(job_id))
        ended.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    while not heard:
        assert listener.is_alive()
        time.sleep(0.02)

    assert a_server.signal(number) < 30
    again = a_server.process()

    assert ended.wait(120)
    assert heard[-1].name == "result"
    assert a_client.job(job_id).attempt == 2
    assert " ERROR " not in stopped.output + again.output


def test_a_volume_that_was_damaged_on_disk_fails_its_job_and_says_why(a_server, a_client, tmp_path):
    a_server.process()
    volume_id = a_client.upload(a_scan(tmp_path, seed=6)).volume_id
    a_server.signal(signal.SIGKILL)
    stored = a_server.studies / ".bird" / "volumes" / f"{volume_id}.nii.gz"
    stored.write_bytes(stored.read_bytes()[:5000])
    a_server.process()

    job = a_client.submit(where(volume_id))
    list(a_client.events(job.job_id))

    assert a_client.job(job.job_id).error["error"] == "bad_volume"
    with pytest.raises(RefusedError) as caught:
        a_client.result(job.job_id)
    assert caught.value.status == 422
    assert str(a_server.studies) not in str(caught.value)
    assert a_client.health()["status"] == "ok"
