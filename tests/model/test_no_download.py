"""`bird ground` as a process of its own, beside a hub that counts who asks it for anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_stand_in import HubStandIn, serving
from tiny_families import save_tiny

ID = "someone/tiny-qwen3-vl"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory) -> Path:
    return save_tiny("qwen3-vl", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def a_hub(a_folder) -> Iterator[HubStandIn]:
    """It has that model."""
    files = {path.name: path.read_bytes() for path in a_folder.iterdir()}
    with serving(HubStandIn(ID, files)) as hub:
        yield hub


@pytest.fixture
def scan(a_phantom_volume, tmp_path) -> Path:
    return a_phantom_volume.save(tmp_path / "phantom.nii.gz")


def ground(scan: Path, model: object, **environment: str) -> subprocess.CompletedProcess:
    dropped = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    command = [sys.executable, "-m", "bird_vlm.cli", "ground", scan, "--text", "the block"]
    command += ["--slices", "3:5", "--model", model, "--device", "cpu"]
    return subprocess.run(
        [*map(str, command), "--json", str(scan.with_name("out.json"))],
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_path_that_exists_asks_nothing(a_hub, a_folder, scan, tmp_path):
    a_hub.requests = 0
    done = ground(scan, a_folder, HF_ENDPOINT=a_hub.url, HF_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert a_hub.requests == 0


@pytest.mark.parametrize("forbids", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_where_the_network_is_forbidden_nothing_is_asked(a_hub, scan, tmp_path, forbids):
    a_hub.requests = 0
    offline = {forbids: "1", "HF_ENDPOINT": a_hub.url, "HF_HOME": str(tmp_path)}
    done = ground(scan, ID, **offline)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"{ID} is not on this machine and {forbids} forbids the network" in line
    assert f"hf download {ID}" in line
    assert a_hub.requests == 0


def test_what_was_fetched_once_needs_no_network_again(a_hub, scan, tmp_path):
    home = {"HF_ENDPOINT": a_hub.url, "HF_HOME": str(tmp_path)}
    fetched = ground(scan, ID, **home)
    assert fetched.returncode == 0, fetched.stderr
    assert f"fetching {ID}" in " ".join(fetched.stderr.split())
    assert "model.safetensors" in a_hub.downloaded
    first = json.loads(scan.with_name("out.json").read_text())
    assert first["model"] == ID
    a_hub.requests = 0
    again = ground(scan, ID, HF_HUB_OFFLINE="1", **home)
    assert again.returncode == 0, again.stderr
    second = json.loads(scan.with_name("out.json").read_text())
    assert first | {"timing_s": 0} == second | {"timing_s": 0}
    assert a_hub.requests == 0
