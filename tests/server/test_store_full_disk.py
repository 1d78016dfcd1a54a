"""Uploads and jobs on a disk that is full: refused by name, nothing half stored, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILL_UP = """
import json, sys
from contextlib import suppress
from pathlib import Path
from bird_server.jobs.errors import JournalError
from bird_server.volumes.store_errors import StoreFullError
from jobs_world import Device, a_service, stored_volume, until_over, where

service = a_service(Path(sys.argv[1]), Device())
first = stored_volume(service)
kept = service.jobs.submit(where(first))
until_over(kept)
rest = Path(sys.argv[1]) / "rest"
with rest.open("wb", buffering=0) as file, suppress(OSError):
    while file.write(bytes(1024)):
        pass
said = {}
try:
    stored_volume(service, seed=8)
except StoreFullError as error:
    said["upload"] = str(error)
try:
    service.jobs.submit(where(first))
except JournalError as error:
    said["job"] = str(error)
said["in use"] = service.stored(first).in_use
rest.unlink()
again = service.jobs.submit(where(first))
until_over(again)
said["after"] = again.state
said["result"] = kept.log.last.name
said["left"] = len(list((service.store.folder / "incoming").iterdir()))
said["volumes"] = len(service.store.all())
print(json.dumps(said))
service.close()
"""


def can_mount_tmpfs() -> bool:
    if not shutil.which("unshare"):
        return False
    mount = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount_tmpfs(), reason="this user may not mount a tmpfs")
def test_a_full_disk_refuses_uploads_and_jobs_until_there_is_room(tmp_path):
    inside = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    here = str(Path(__file__).parent)
    asked = [sys.executable, "-c", FILL_UP, str(tmp_path)]

    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, str(tmp_path), *asked],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    assert "disk is full" in said["upload"]
    assert "noted down" in said["job"]
    assert (said["in use"], said["left"], said["volumes"]) == (False, 0, 1)
    assert (said["after"], said["result"]) == ("done", "result")
