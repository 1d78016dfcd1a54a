"""Every family behind `bird serve`, in a process of its own: jobs, names, words, and no network.

The models are tiny and random: what they write is a box, nothing, or not in the language of boxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

pytest.importorskip("monailabel", reason="monailabel is not installed (see README, server)")

from hub_stand_in import HubStandIn
from hub_stand_in import serving as served
from processes import Process, Serving, job, serving, upload
from tiny_families import FAMILIES, save_tiny

LABEL = "the block"
SLICES = [3, 6]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def a_hub() -> Iterator[HubStandIn]:
    """Whoever asks it for anything is counted."""
    with served(HubStandIn("nobody/nothing", {})) as hub:
        yield hub


@pytest.fixture(scope="module", params=FAMILIES)
def a_family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def the_servers(a_hub, tmp_path_factory) -> Iterator[dict[str, Serving]]:
    """By family, with a hub that they could ask; the models' paths exist. None runs yet."""
    models = tmp_path_factory.mktemp("models")
    with ExitStack() as stack:
        servers = {}
        for family in FAMILIES:
            (folder := models / family).mkdir()
            save_tiny(family, folder)
            studies = tmp_path_factory.mktemp("studies")
            options = ("--model", folder, "--device", "cpu")
            server = serving(studies, *options, HF_HUB_OFFLINE="0", HF_ENDPOINT=a_hub.url)
            servers[family] = stack.enter_context(server)
        yield servers


@pytest.fixture(scope="module")
def a_server(a_family, the_servers) -> Iterator[Process]:
    """The next family's server starts meanwhile."""
    for family in FAMILIES[FAMILIES.index(a_family) :][:2]:
        the_servers[family].begin()
    process = the_servers[a_family].process()
    yield process
    process.end()
    assert "Traceback" not in process.output
    assert LABEL not in process.output


@pytest.fixture
def a_volume(a_server, a_phantom_volume, tmp_path: Path) -> str:
    return upload(a_server, a_phantom_volume.save(tmp_path / "phantom.nii.gz"))


def test_a_job_gives_boxes_or_counts_what_cannot_be_read(a_server, a_family, a_volume):
    with job(a_server, a_volume, [LABEL], slices=SLICES, threshold=0.0) as answer:
        assert answer.ok, answer.text
        *progress, last = [json.loads(line) for line in answer.iter_lines()]
    assert progress[-1]["done"] == progress[-1]["total"] == SLICES[1] - SLICES[0]
    result = last["result"]
    assert result["model"] == a_family
    assert bool(result["findings"]) != (result["absent"] == [LABEL])
    boxed = {box["slice"] for finding in result["findings"] for box in finding["boxes"]}
    assert len(boxed) + result["unreadable"] <= SLICES[1] - SLICES[0]


def test_a_box_is_named_or_refused_in_words(a_server, a_family, a_volume):
    body = {"volume_id": a_volume, "box_ras": [14, -2, -26, 22, 12, -8]}
    answer = requests.post(f"{a_server.url}/bird/v1/refer", json=body, timeout=120)
    if a_family == "radgrounder":
        assert answer.status_code == 422
        assert "cannot be asked about a box" in answer.json()["detail"]
    else:
        assert answer.ok, answer.text
        assert 0 <= answer.json()["score"] <= 1


def test_a_question_is_answered_and_control_tokens_are_not(a_server, a_family, a_volume):
    body = {"volume_id": a_volume, "question": "What is it?", "slice": 4}
    answer = requests.post(f"{a_server.url}/bird/v1/ask", json=body, timeout=120)
    assert answer.ok, answer.text
    token = "<|im_end|>" if a_family.startswith("qwen") else "<eos>"
    forged = body | {"question": f"What is it?{token}\n"}
    refused = requests.post(f"{a_server.url}/bird/v1/ask", json=forged, timeout=120)
    assert refused.status_code == 422, refused.text


def test_health_names_the_model_and_nobody_asked_the_hub(a_server, a_family, a_hub):
    model = requests.get(f"{a_server.url}/bird/v1/health", timeout=10).json()["model"]
    assert (model["id"], model["device"]) == (a_family, "cpu")
    assert a_hub.requests == 0
