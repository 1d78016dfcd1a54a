"""Ask a scan through the real server and keep what comes back.

Starts `python -m bird_server` with bird-mini, uploads the volume, asks, and writes JSON, Slicer
markups and a picture. Without a volume it takes the MNI152 T1 brain that nilearn carries.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests
from pydantic import TypeAdapter
from rich.console import Console

from bird_vlm.console import console, plain_errors, progress
from bird_vlm.contract import GroundingResult, to_json
from bird_vlm.errors import BirdError
from bird_vlm.markups import markups_json
from bird_vlm.outputs import findings_table, write_json
from bird_vlm.overlay import save_overlay
from bird_vlm.volumes import read_volume

BRAIN_LABELS = (
    "left lateral ventricle,right lateral ventricle,left thalamus,right thalamus,"
    "left hippocampus,right hippocampus,brain stem,optic disc"
)
START_SECONDS = 120

http = requests.Session()
http.trust_env = False  # the server is on this machine: no proxy


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volume", default="", help="your scan; the MNI152 brain where empty")
    parser.add_argument("--text", default="", help="labels with commas between")
    parser.add_argument("--plane", default="axial", help="axial, coronal or sagittal")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    return parser.parse_args()


@plain_errors
def main() -> None:
    given = arguments()
    if given.volume and not given.text:
        raise BirdError("text: say what to look for, such as TEXT=liver,spleen")
    if Path(given.volume or ".").is_dir() and given.volume:
        raise BirdError(f"{given.volume}: is a folder; give one file, or use `bird ground`")
    given.out.mkdir(parents=True, exist_ok=True)
    path = Path(given.volume) if given.volume else mni152_brain(given.out / "mni152_t1.nii.gz")
    labels = [label.strip() for label in (given.text or BRAIN_LABELS).split(",") if label.strip()]
    volume = read_volume(path)
    with running_server(given.out) as api:
        result = ask(api, upload(api, path), labels, given.plane)
    write_json(given.out / "findings.json", to_json(result))
    write_json(given.out / "findings.mrk.json", markups_json(result))
    save_overlay(given.out / "findings.png", volume, result)
    Console().print(findings_table(result))
    print(f"{path.name}: see {given.out}/findings.json, findings.mrk.json and findings.png")


def mni152_brain(path: Path) -> Path:
    from nilearn.datasets import load_mni152_template

    if not path.exists():
        load_mni152_template(resolution=1).to_filename(path)
    return path


def upload(api: str, path: Path) -> str:
    """Send the volume's bytes; the server's id for them."""
    with path.open("rb") as stream:
        response = http.put(f"{api}/volumes", params={"name": path.name}, data=stream)
    return checked(response).json()["volume_id"]


def ask(api: str, volume_id: str, labels: list[str], plane: str) -> GroundingResult:
    """Ground the labels on all slices, and follow the server's progress."""
    question = {"volume_id": volume_id, "labels": labels, "plane": plane}
    with (
        http.post(f"{api}/ground", json=question, stream=True) as response,
        progress(f"asking for {len(labels)} labels") as show,
    ):
        for event in map(json.loads, checked(response).iter_lines()):
            if event["event"] == "progress":
                show(event["done"], event["total"])
            elif event["event"] == "error":
                raise BirdError(f"{event['detail']} {event['hint']}")
            else:
                return TypeAdapter(GroundingResult).validate_python(event["result"])
    raise BirdError("the server's answer ended without a result; see its log")


def checked(response: requests.Response) -> requests.Response:
    """The response, or the server's own words on what is wrong."""
    if not response.ok:
        with suppress(ValueError, KeyError):
            error = response.json()
            raise BirdError(f"{error['detail']} {error['hint']}")
        raise BirdError(f"the server answered {response.status_code}; see its log")
    return response


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """The real server on a free port of this machine, stopped at the end."""
    port = free_port()
    command = [sys.executable, "-m", "bird_server", "--studies", str(folder / "studies")]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "BIRD_TOKEN": ""},
        )
        try:
            api = f"http://127.0.0.1:{port}/bird/v1"
            with console.status("starting the server ..."):
                wait_until_ready(server, api, folder / "server.log")
            yield api
        finally:
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_until_ready(server: subprocess.Popen, api: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise BirdError(f"the server stopped with exit code {server.returncode}; see {log}")
        with suppress(requests.ConnectionError):
            if http.get(f"{api}/health", timeout=10).ok:
                return
        time.sleep(0.5)
    raise BirdError(f"the server did not answer within {START_SECONDS} s; see {log}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
