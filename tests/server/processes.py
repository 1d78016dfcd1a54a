"""Real processes that tests talk to: started, waited for, ended; and requests to our server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
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
    return launched([sys.executable, "-u", *command], url, **environment)


def launched(command: list[str], url: str = "", **environment: str) -> Process:
    """Any command, in the environment of `started`."""
    outer = {n: v for n, v in os.environ.items() if not n.startswith(("MONAI_LABEL_", "BIRD_"))}
    usual = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    popen = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=outer | usual | environment,
    )
    process = Process(popen, url)
    threading.Thread(target=lambda: process.lines.extend(popen.stdout), daemon=True).start()
    return process


def wait_for(process: Process, address: str, headers: dict[str, str] | None = None) -> None:
    """Until the process answers there with success."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.popen.poll() is None, process.output
        try:
            if requests.get(address, headers=headers, timeout=10).ok:
                return
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(0.25)
    raise TimeoutError(process.output)


def free_port() -> int:
    with serve.bound_socket("127.0.0.1", 0) as listener:
        return listener.getsockname()[1]


class Serving:
    """`bird serve` on one folder and one port: started where it does not run, ended, started again.

    A start takes seconds, so tests that leave it running leave it to the next.
    """

    def __init__(self, studies: Path, *options: object, **environment: str) -> None:
        self.studies, self._options, self._environment = studies, options, environment
        self._process: Process | None = None

    @cached_property
    def url(self) -> str:
        """The same after every start."""
        return f"http://127.0.0.1:{free_port()}"

    def begin(self) -> Process:
        """The process, which need not answer yet."""
        if self._process is None or self._process.popen.poll() is not None:
            command = ["-m", "bird_vlm.cli", "serve", "--studies", str(self.studies)]
            command += ["--port", self.url.rpartition(":")[2], *map(str, self._options)]
            self._process = started(command, self.url, **self._environment)
        return self._process

    def process(self) -> Process:
        """The process, which answers."""
        wait_for(process := self.begin(), f"{self.url}/bird/v1/health")
        return process

    def signal(self, number: signal.Signals) -> float:
        """Seconds until the process is over."""
        begin = time.monotonic()
        self._process.popen.send_signal(number)
        self._process.popen.wait(60)
        return time.monotonic() - begin

    def end(self) -> None:
        if self._process is not None:
            self._process.end()


@contextmanager
def serving(studies: Path, *options: object, **environment: str) -> Iterator[Serving]:
    """With these options of `bird serve`; ended at last."""
    server = Serving(studies, *options, **environment)
    try:
        yield server
    finally:
        server.end()


@contextmanager
def bird_serve(studies: Path, *options: object, **environment: str) -> Iterator[Process]:
    """`bird serve` with these options, from its first answer to its end."""
    with serving(studies, *options, **environment) as server:
        yield server.process()


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
