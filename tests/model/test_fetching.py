"""Fetching from a hub on localhost: whole, cut, gated, unknown, forbidden, damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from bird_vlm.catalogue.fetching import HubFile, fetch_model, needed_files
from bird_vlm.catalogue.installed import cached_folder, cached_models
from bird_vlm.catalogue.names import model_path
from bird_vlm.errors import CheckpointError
from hub_stand_in import HubStandIn, serving

ID = "someone/tiny-bird"
SHARD = "model.safetensors"
NEEDED = {"config.json", "tokenizer.json", "LICENSE", SHARD}
WEIGHTS = save({"weight": np.arange(60_000, dtype=np.float32)})
FILES = {
    "README.md": b"# tiny",
    "config.json": json.dumps({"model_type": "bird"}).encode(),
    "modeling_tiny.py": b"raise SystemExit",
    "tokenizer.json": b"{}",
    "LICENSE": b"Do as you like.",
    SHARD: WEIGHTS,
    "pytorch_model.bin": b"pickled",
    "pytorch_model.bin.index.json": b"{}",
    "onnx/model.onnx": b"another form",
}


def use_hub(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A hub with one tiny model, which huggingface_hub takes for the hub; and an empty cache.

    HF_ENDPOINT and HF_HOME do the same, but are read once, when huggingface_hub is imported.
    """
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serving(HubStandIn(ID, dict(FILES))) as hub:
        use_hub(hub.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_needed_arrives_whole(hub: HubStandIn):
    told = []
    folder = fetch_model(ID, tell=told.append)
    assert files_of(folder) == {name: FILES[name] for name in NEEDED}
    assert hub.downloaded == NEEDED
    assert told[0].startswith(f"fetching {ID}")


def test_a_name_that_is_in_the_cache_asks_nothing_of_the_hub(hub: HubStandIn):
    folder = model_path(ID)
    hub.requests = 0
    assert model_path(ID) == cached_folder(ID) == folder
    assert cached_models() == {ID: folder}
    assert hub.requests == 0


def test_a_lost_connection_goes_on_where_it_broke(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # 10 MB would hold it all
    hub.cut_once[SHARD] = 100_000
    assert (fetch_model(ID) / SHARD).read_bytes() == WEIGHTS
    ranges = [asked for name, asked in hub.downloads if name == SHARD]
    assert ranges == [None, "bytes=100000-"]


def test_a_fetch_that_failed_keeps_whole_files_and_is_not_taken_for_a_model(hub: HubStandIn):
    hub.broken.add(SHARD)
    with pytest.raises(CheckpointError, match=r"503 .*try again later, whole files are kept"):
        fetch_model(ID)
    assert cached_folder(ID) is None
    assert cached_models() == {}
    hub.broken.clear()
    hub.downloads.clear()
    fetch_model(ID)
    assert hub.downloaded == {SHARD}


def test_a_model_in_a_subfolder_is_fetched_alone(hub: HubStandIn):
    hub.files = {f"detection/{name}": content for name, content in FILES.items()} | FILES
    folder = fetch_model(ID, "detection")
    assert folder.name == "detection"
    assert files_of(folder) == {name: FILES[name] for name in NEEDED}
    assert hub.downloaded == {f"detection/{name}" for name in NEEDED}
    assert cached_folder(ID, "detection") == folder
    assert cached_folder(ID) is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_where_to_accept_its_licence(hub: HubStandIn, status: int):
    hub.refuse = (status, "GatedRepo")
    with pytest.raises(
        CheckpointError, match=rf"gated: accept its licence at {hub.url}/{ID}.*auth"
    ):
        fetch_model(ID)


def test_a_refused_model_asks_for_a_login(hub: HubStandIn):
    hub.refuse = (403, "")
    with pytest.raises(
        CheckpointError, match=r"refuses someone/tiny-bird to you \(403\).*HF_TOKEN"
    ):
        fetch_model(ID)


def test_an_unknown_model_says_so(hub: HubStandIn):
    with pytest.raises(CheckpointError, match=r"no model 'someone/tiny-brid'.*spelling.*path"):
        fetch_model("someone/tiny-brid")


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_nothing_is_asked_where_the_network_is_forbidden(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setenv(name, "1")
    with pytest.raises(CheckpointError, match=rf"{name} forbids.*hf download {ID} --local-dir DIR"):
        model_path(ID)
    assert hub.requests == 0


def test_a_folder_of_that_name_wins(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / ID).mkdir(parents=True)
    (tmp_path / ID / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert model_path(ID) == fetch_model(ID) == Path(ID)
    assert hub.requests == 0


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(WEIGHTS[:-4], "Consistency check failed.*try again", id="too short"),
        pytest.param(WEIGHTS + b"more", "Consistency check failed.*try again", id="too long"),
        pytest.param(WEIGHTS[:-4] + b"oops", f"{SHARD} did not arrive.*thrown", id="other bytes"),
    ],
)
def test_a_damaged_file_is_refused_and_fetched_anew(hub: HubStandIn, sent: bytes, reason: str):
    hub.sent[SHARD] = sent
    with pytest.raises(CheckpointError, match=reason):
        fetch_model(ID)
    assert cached_folder(ID) is None
    hub.sent.clear()
    assert (fetch_model(ID) / SHARD).read_bytes() == WEIGHTS


def test_a_disk_that_is_too_small_is_seen_before_the_first_byte(hub: HubStandIn):
    hub.sizes[SHARD] = 10**15
    with pytest.raises(CheckpointError, match=r"needs 931322.6 GiB.*HF_HOME"):
        fetch_model(ID)
    assert not hub.downloads


def test_a_hub_that_cannot_be_reached_tells_the_other_way(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
):
    use_hub("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(CheckpointError, match=r"cannot be reached.*hf download.*--model DIR"):
        fetch_model(ID)


def test_a_page_that_is_no_hub_is_no_traceback(hub: HubStandIn):
    hub.listing = "<html>Please log in to this network</html>"
    with pytest.raises(CheckpointError, match=r"could not be fetched \("):
        fetch_model(ID)


def test_a_repository_without_weights_is_refused(hub: HubStandIn):
    hub.files = {"config.json": b"{}", "model.gguf": b"another form"}
    with pytest.raises(CheckpointError, match="holds no weights that can be loaded"):
        fetch_model(ID)
    assert not hub.downloads


@pytest.mark.parametrize(
    "text",
    [
        *("../up/there", "/etc/passwd", "~/models/x", "a/b/c", "no-slash", "own er/name", ""),
        *("owner/na\0me", "owner/name\n", "owner/..", "owner/a..b", "-rf/name", "owner/name.git"),
        *("http://host/name", "owner\\name", "öwner/name", "owner/" + "n" * 96),
    ],
)
def test_what_is_no_hub_id_is_refused_before_anything_happens(hub: HubStandIn, text: str):
    with pytest.raises(CheckpointError, match="model: "):
        fetch_model(text)
    assert hub.requests == 0


@pytest.mark.parametrize(
    ("names", "subfolder", "chosen"),
    [
        pytest.param(
            ["config.json", "pytorch_model.bin", "qwen.tiktoken", "qwen.py"],
            "",
            {"config.json", "pytorch_model.bin", "qwen.tiktoken"},
            id="pickled weights where there are no others",
        ),
        pytest.param(
            ["config.json", "model-00001-of-00002.safetensors", "merges.txt", "optimizer.bin"],
            "",
            {"config.json", "model-00001-of-00002.safetensors", "merges.txt"},
            id="a shard, and nothing of a training",
        ),
        pytest.param(
            ["config.json", "consolidated.safetensors", "model.safetensors"],
            "",
            {"config.json", "model.safetensors"},
            id="one of two copies",
        ),
        pytest.param(["model.safetensors"], "", set(), id="no config"),
        pytest.param(["config.json", "a/model.safetensors"], "a", set(), id="config elsewhere"),
        pytest.param([], "", set(), id="nothing"),
    ],
)
def test_needed_files(names: list[str], subfolder: str, chosen: set[str]):
    found = needed_files([HubFile(name, 1) for name in names], subfolder)
    assert {file.name for file in found.all} == chosen


def test_the_environment_of_a_user_is_heeded(tmp_path: Path):
    program = f"from bird_vlm.catalogue.names import model_path; print(model_path({ID!r}))"

    def run(**environment: str) -> subprocess.CompletedProcess:
        dropped = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**kept, "HF_HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    with serving(HubStandIn(ID, dict(FILES))) as hub:
        first = run(HF_ENDPOINT=hub.url)
        assert first.returncode == 0, first.stderr
        folder = Path(first.stdout.strip())
        assert folder.is_relative_to(tmp_path / "hub")
        hub.requests = 0
        second = run(HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
        assert Path(second.stdout.strip()) == folder
        assert hub.requests == 0
