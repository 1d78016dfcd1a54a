"""Nothing scripted: a server process that is killed, told to stop, or finds a damaged volume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

import bird_vlm
from bird_server import serve
from bird_server.client import Client, RefusedError

pytest.importorskip("monailabel", reason="monailabel is not installed (see README, server)")

WEIGHTS = Path(bird_vlm.__file__).parent / "weights" / "bird-mini"
LABEL = "right thalamus"
START_S = 180
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.is_dir(), reason="bird-mini is not in this checkout"),
]


class Server:
    """A server process on one studies folder, which can be started again."""

    def __init__(self, studies: Path) -> None:
        with serve.bound_socket("127.0.0.1", 0) as listener:
            self.port = listener.getsockname()[1]
        self.studies, self.lines = studies, []
        self.client = Client(f"http://127.0.0.1:{self.port}", name="a test", patience_s=START_S)
        self.process: subprocess.Popen | None = None

    def start(self) -> Client:
        command = [sys.executable, "-u", "-m", "bird_server", "--studies", str(self.studies)]
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MONAI_LABEL_", "BIRD_"))
        }
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=inherited | {"OMP_NUM_THREADS": "1"},
        )
        output = self.process.stdout
        threading.Thread(target=lambda: self.lines.extend(output), daemon=True).start()
        self._wait()
        return self.client

    def _wait(self) -> None:
        for _ in range(START_S * 5):
            try:
                if requests.get(f"http://127.0.0.1:{self.port}/bird/v1/health", timeout=10).ok:
                    return
            except (requests.ConnectionError, requests.Timeout):
                assert self.process.poll() is None, self.output
            time.sleep(0.2)
        raise TimeoutError(self.output)

    def end(self, number: signal.Signals) -> float:
        """Seconds until the process is over."""
        begin = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60)
        return time.monotonic() - begin

    @property
    def output(self) -> str:
        return "".join(self.lines)


@pytest.fixture
def a_server(tmp_path) -> Iterator[Server]:
    server = Server(tmp_path / "studies")
    yield server
    if server.process is not None and server.process.poll() is None:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def a_scan(tmp_path_factory) -> Path:
    """120 slices of smooth noise, enough for a job of some seconds."""
    values = np.random.default_rng(5).normal(size=(96, 96, 120)).cumsum(2).astype(np.float32)
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


def where(volume_id: str, *labels: str, **more) -> dict:
    return {"kind": "ground", "volume_id": volume_id, "labels": list(labels or [LABEL])} | more


def without_times(result: dict) -> dict:
    return {name: value for name, value in result.items() if name != "timing_s"}


def test_after_kill_9_during_a_job_it_goes_on_and_nothing_is_lost(a_server, a_scan):
    client = a_server.start()
    volume_id = client.upload(a_scan).volume_id
    small = where(volume_id, slices=[50, 54])
    done = client.submit(small)
    list(client.events(done.job_id))
    before = client.result(done.job_id)
    labels = sorted(
        {name for names in client.health()["model"]["labels"].values() for name in names}
    )
    job = client.submit(where(volume_id, *labels[:12]))
    waiting = client.submit(small)
    events = client.events(job.job_id)
    first = next(events)

    a_server.end(signal.SIGKILL)
    a_server.start()
    rest = list(events)  # the stream broke off and is taken up

    assert first.event_id.startswith("1-")
    assert (rest[-1].name, rest[-1].event_id.split("-")[0]) == ("result", "2")
    assert client.job(job.job_id).attempt == 2
    assert client.result(done.job_id) == before
    list(client.events(waiting.job_id))
    again = client.result(waiting.job_id)["result"]
    assert without_times(again) == without_times(before["result"])
    assert " ERROR " not in a_server.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_streams_soon_and_the_job_goes_on_at_the_next_start(a_server, a_scan, number):
    client = a_server.start()
    volume_id = client.upload(a_scan).volume_id
    labels = sorted(
        {name for names in client.health()["model"]["labels"].values() for name in names}
    )
    job = client.submit(where(volume_id, *labels[:12]))
    heard, ended = [], threading.Event()

    def listen() -> None:
        heard.extend(client.events(job.job_id))
        ended.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    while not heard and not client.job(job.job_id).done:
        time.sleep(0.1)

    assert a_server.end(number) < 30
    a_server.start()

    assert ended.wait(120)
    assert heard[-1].name == "result"
    assert client.job(job.job_id).attempt == 2
    assert " ERROR " not in a_server.output


def test_a_volume_that_was_damaged_on_disk_fails_its_job_and_says_why(a_server, a_scan):
    client = a_server.start()
    volume_id = client.upload(a_scan).volume_id
    a_server.end(signal.SIGKILL)
    stored = a_server.studies / ".bird" / "volumes" / f"{volume_id}.nii.gz"
    stored.write_bytes(stored.read_bytes()[:5000])
    a_server.start()

    job = client.submit(where(volume_id))
    list(client.events(job.job_id))

    assert client.job(job.job_id).error["error"] == "bad_volume"
    with pytest.raises(RefusedError) as caught:
        client.result(job.job_id)
    assert caught.value.status == 422
    assert str(a_server.studies) not in str(caught.value)
    assert client.health()["status"] == "ok"
