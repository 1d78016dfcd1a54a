"""A real server (uvicorn, sockets, MONAI Label's app) around a scripted model.

MONAI Label has one app per process, so there is one server per test session; each test gets a
fresh scripted model and an untouched service.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="monailabel is not installed (see README, server)")

import requests
import uvicorn

from attacked import READ_TOKEN, WRITE_TOKEN, Attacked, started
from bird_server import serve, service
from bird_server.review.review import Review
from bird_server.review.store import ReviewStore
from bird_server.volumes.volumes_store import StoreLimits, VolumesStore
from review_cases import a_finding, a_proposal, a_store_in
from scripted import UPLOAD_LIMIT_BYTES, ScriptedModel, nifti, wait_until


@dataclass
class Server:
    """A running server and where it keeps things."""

    url: str
    studies: Path
    port: int


@pytest.fixture(scope="session")
def _running(tmp_path_factory) -> Iterator[Server]:
    studies = tmp_path_factory.mktemp("studies")
    listener = serve.bound_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    service.use(a_service(studies, ScriptedModel()))
    config = uvicorn.Config("bird_server.asgi:app", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    with pytest.MonkeyPatch.context() as environment:  # read at the start; later tests inherit none
        for name, value in serve.settings(studies, port, None).items():
            environment.setenv(name, value)
        thread.start()
        wait_until(lambda: server.started, seconds=60)
    yield Server(f"http://127.0.0.1:{port}", studies, port)
    server.should_exit = True
    thread.join(10)
    service.use(None)


def a_service(studies: Path, model: ScriptedModel) -> service.Service:
    store = VolumesStore(studies / ".bird" / "volumes", StoreLimits(UPLOAD_LIMIT_BYTES))
    return service.Service(store, lambda _name, _device: model, review=Review.open(studies))


@pytest.fixture
def a_model(_running) -> Iterator[ScriptedModel]:
    """The scripted model that the running server asks during this test."""
    model = ScriptedModel()
    before, fresh = service.current(), a_service(_running.studies, model)
    service.use(fresh)
    yield model
    for _ in range(1000):
        model.gate.release()
    fresh.close()
    service.use(before)


@pytest.fixture
def a_server(_running, a_model, caplog) -> Iterator[Server]:
    """The running server; tests that provoke a fault of the server clear `caplog` at their end."""
    yield _running
    faults = [record for record in caplog.get_records("call") if record.exc_info]
    assert not faults, f"the server logged a traceback: {faults[0].getMessage()}"


@pytest.fixture
def a_session(a_server) -> Iterator[requests.Session]:
    """An HTTP client of the running server; paths are relative to its URL."""

    class Local(requests.Session):
        def request(self, method, url, **kwargs):
            kwargs.setdefault("timeout", 30)
            return super().request(method, a_server.url + url, **kwargs)

    with Local() as session:
        yield session


@pytest.fixture
def a_volume_file(tmp_path) -> Path:
    """A NIfTI file of 12 x 10 x 8 voxels with random values."""
    path = tmp_path / "scan.nii.gz"
    values = np.random.default_rng(7).normal(size=(12, 10, 8)).astype(np.float32)
    nibabel.save(nifti(values), path)
    return path


@pytest.fixture
def a_volume_id(a_session, a_volume_file) -> str:
    """The id of that volume, uploaded."""
    answer = a_session.put("/bird/v1/volumes?name=scan.nii.gz", data=a_volume_file.read_bytes())
    assert answer.status_code in (200, 201), answer.text
    return answer.json()["volume_id"]


@pytest.fixture
def a_store(tmp_path) -> Iterator[ReviewStore]:
    """An empty store of reviews, whose clock ticks one second per look."""
    store = a_store_in(tmp_path)
    yield store
    store.close()


@pytest.fixture
def a_liver(a_store) -> str:
    """The id of a proposed liver on slices 3 to 6."""
    return a_store.propose(a_proposal(a_finding())).added[0]


@pytest.fixture(scope="session")
def an_attacked_server(tmp_path_factory) -> Iterator[Attacked]:
    """A server process with bird-mini and both tokens, for tests that attack it."""
    home = tmp_path_factory.mktemp("attacked")
    (home / "write").write_text(f"{WRITE_TOKEN}\n")
    (home / "read").write_text(f"{READ_TOKEN}\n")
    files = ("--token-file", str(home / "write"), "--read-token-file", str(home / "read"))
    server = started(home, *files, "--log-format", "json", BIRD_UPLOAD_BYTES=str(4 << 20))
    yield server
    server.stop()
    assert '"traceback"' not in server.log, server.log


@pytest.fixture(autouse=True)
def the_log_stays_as_it_was():
    """A server that starts in this process sends everything that is logged to its own stream."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
