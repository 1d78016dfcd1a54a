"""Real processes that tests talk to: started, waited for, ended; and requests to our server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from bird_server import serve

START_S = 180


@dataclass
class Process:
    """A process, its address, and the lines of its output, which keep coming."""

    popen: subprocess.Popen
    url: str
    lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def end(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def started(command: list[str], url: str = "", **environment: str) -> Process:
    """Python with these arguments, offline unless `environment` says otherwise."""
    outer = {n: v for n, v in os.environ.items() if not n.startswith(("MONAI_LABEL_", "BIRD_"))}
    usual = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    popen = subprocess.Popen(
        [sys.executable, "-u", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=outer | usual | environment,
    )
    process = Process(popen, url)
    threading.Thread(target=lambda: process.lines.extend(popen.stdout), daemon=True).start()
    return process


def wait_for(process: Process, address: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.popen.poll() is None, process.output
        try:
            if requests.get(address, timeout=10).ok:
                return
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(0.25)
    raise TimeoutError(process.output)


def free_port() -> int:
    with serve.bound_socket("127.0.0.1", 0) as listener:
        return listener.getsockname()[1]


@contextmanager
def bird_serve(studies: Path, *options: object, **environment: str) -> Iterator[Process]:
    """`bird serve` with these options, until it answers, and then to its end."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = ["-m", "bird_vlm.cli", "serve", "--studies", str(studies), "--port", str(port)]
    process = started([*command, *map(str, options)], url, **environment)
    try:
        wait_for(process, f"{url}/bird/v1/health")
        yield process
    finally:
        process.end()


def upload(server: Process, path: Path) -> str:
    """The id of the volume in a file."""
    answer = requests.put(
        f"{server.url}/bird/v1/volumes",
        params={"name": path.name},
        data=path.read_bytes(),
        timeout=60,
    )
    assert answer.ok, answer.text
    return answer.json()["volume_id"]


def job(server: Process, volume_id: str, labels: list[str], **more) -> requests.Response:
    """A grounding, whose events come line by line."""
    body = {"volume_id": volume_id, "labels": labels, **more}
    return requests.post(f"{server.url}/bird/v1/ground", json=body, stream=True, timeout=300)
