"""Reviews of a real server that is killed, whose database is broken, and whose disk is full."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

from bird_server.review.schema import VERSION, version_of
from processes import Process, Serving, free_port, launched, serving, upload, wait_for

pytestmark = pytest.mark.slow
BOX = {"slice": 2, "box_pixel": [2.0, 2.0, 9.0, 8.0]}
PAGE_BYTES = 4096


@pytest.fixture(scope="module")
def a_server(tmp_path_factory) -> Iterator[Serving]:
    """Every test starts it where it does not run, and leaves one that does."""
    with serving(tmp_path_factory.mktemp("studies")) as server:
        yield server


@pytest.fixture
def a_scan(tmp_path) -> Path:
    """Of other voxels in each test, so that each has a case of its own."""
    path = tmp_path / "scan.nii.gz"
    values = np.random.default_rng().normal(size=(16, 14, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path


def draw(server: Process, volume_id: str, label: str) -> requests.Response:
    body = {"label": label, "boxes": [BOX], "reviewer": "ann", "finding_id": uuid.uuid4().hex}
    address = f"{server.url}/bird/v1/cases/{volume_id}/findings"
    return requests.post(address, json=body, timeout=60)


def labels(server: Process, volume_id: str) -> list[str]:
    answer = requests.get(f"{server.url}/bird/v1/cases/{volume_id}", timeout=60)
    assert answer.ok, answer.text
    return [found["label"] for found in answer.json()["findings"] if found["status"] == "accepted"]


def state(server: Process) -> dict:
    return requests.get(f"{server.url}/bird/v1/review", timeout=60).json()


def test_what_was_acknowledged_survives_a_kill_in_the_middle_of_writing(a_server, a_scan):
    acknowledged: list[str] = []
    killed = a_server.process()
    volume_id = upload(killed, a_scan)

    def write():
        try:
            for number in range(10_000):
                assert draw(killed, volume_id, f"nodule {number}").status_code == 201
                acknowledged.append(f"nodule {number}")
        except requests.ConnectionError:
            return

    writer = threading.Thread(target=write)
    writer.start()
    while len(acknowledged) < 20:
        assert writer.is_alive()
        time.sleep(0.001)
    a_server.signal(signal.SIGKILL)
    writer.join(30)
    again = a_server.process()

    kept = labels(again, volume_id)
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1  # one was written and not told
    assert state(again)["recovery"] is None


def test_a_broken_database_is_kept_recovered_and_told(a_server, a_scan):
    volume_id = upload(a_server.process(), a_scan)
    for number in range(30):
        assert draw(a_server.process(), volume_id, f"nodule {number}").status_code == 201
    a_server.end()
    path = a_server.studies / ".bird" / "review.sqlite3"
    break_index(path)
    broken = path.read_bytes()

    again = a_server.process()

    told = state(again)["recovery"]
    assert labels(again, volume_id) == [f"nodule {number}" for number in range(30)]
    assert "kept unchanged as review.sqlite3.damaged" in told
    assert "Known to be lost: nothing" in told
    assert "damaged" in again.output
    kept = min(path.parent.glob("review.sqlite3.damaged-*"), key=lambda path: len(path.name))
    assert kept.read_bytes() == broken


def break_index(path: Path) -> None:
    """Overwrites the first page of an index, as a failing disk would."""
    with closing(sqlite3.connect(path)) as connection:
        assert version_of(connection) == VERSION
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'states_by_label'"
        (page,) = connection.execute(query).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)


def test_a_database_that_breaks_in_use_is_refused_and_mended_by_a_restart(a_server, a_scan):
    server = a_server.process()
    volume_id = upload(server, a_scan)
    assert draw(server, volume_id, "nodule").status_code == 201
    path = a_server.studies / ".bird" / "review.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    header = path.read_bytes()[:PAGE_BYTES]
    with path.open("r+b") as file:
        file.write(b"\xa5" * PAGE_BYTES)

    refused = draw(server, volume_id, "cyst")

    assert (refused.status_code, refused.json()["error"]) == (503, "store_damaged")
    assert "restart" in refused.json()["detail"]
    health = requests.get(f"{server.url}/bird/v1/health", timeout=30)
    assert health.ok
    with path.open("r+b") as file:
        file.write(header)
    assert draw(server, volume_id, "cyst").status_code == 201


def can_mount_tmpfs() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    script = "mount -t tmpfs -o size=1m none /mnt"
    run = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, check=False)
    return run.returncode == 0


@pytest.mark.skipif(not can_mount_tmpfs(), reason="this user may not mount a tmpfs")
def test_a_full_disk_refuses_reviews_and_loses_none(tmp_path, a_scan):
    """The studies lie on a tmpfs of 24 MB, which only the server's own mount namespace has."""
    disk = tmp_path / "disk"
    disk.mkdir()
    server = on_a_small_disk(disk)
    inside = Path(f"/proc/{server.popen.pid}/root{disk}")
    try:
        wait_for(server, f"{server.url}/bird/v1/health")
        volume_id = upload(server, a_scan)
        assert draw(server, volume_id, "nodule").status_code == 201
        fill(inside / "filler")

        answers = [draw(server, volume_id, f"cyst {number}") for number in range(200)]

        refused = [answer for answer in answers if answer.status_code != 201]
        stored = ["nodule"] + [a.json()["label"] for a in answers if a.status_code == 201]
        assert refused
        assert {(a.status_code, a.json()["error"]) for a in refused} == {(507, "store_write")}
        assert "free some space" in refused[0].json()["detail"]
        assert labels(server, volume_id) == stored
        (inside / "filler").unlink()
        assert draw(server, volume_id, "with room again").status_code == 201
        assert labels(server, volume_id) == [*stored, "with room again"]
    finally:
        server.end()


def on_a_small_disk(disk: Path) -> Process:
    port = free_port()
    program = [sys.executable, "-u", "-m", "bird_vlm.cli", "serve", "--studies", str(disk)]
    script = 'mount -t tmpfs -o size=24m none "$0" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, str(disk), *program, "--port", str(port)]
    return launched(command, f"http://127.0.0.1:{port}")


def fill(path: Path) -> None:
    """Until nothing more goes onto the disk."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return
