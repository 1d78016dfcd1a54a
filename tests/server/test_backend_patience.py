"""A server job whose model runs elsewhere and is busy, fails or is slow: it is asked again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="monailabel is not installed (see README, server)")
pytest.importorskip("openai", reason="openai is not installed (see README, endpoint)")

from bird_vlm.dialects import dialect_of
from processes import Process, bird_serve, job, upload
from seeing_server import MODEL, ModelServer, Reply, a_knowing_model, a_seeing_server, refusal

LABEL = "the block"
SHOWN = {"slices": [2, 8], "window": [150, 20]}  # the block is white, on slices 3 to 6
PATIENCE_S = 2.0
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def a_model_server() -> Iterator[ModelServer]:
    with a_seeing_server() as world:
        world.answer = a_knowing_model(dialect_of("qwen3-vl"))
        yield world


@pytest.fixture(scope="module")
def our_server(a_model_server, tmp_path_factory) -> Iterator[Process]:
    options = ("--backend", a_model_server.url, "--model", MODEL, "--timeout", PATIENCE_S)
    with bird_serve(tmp_path_factory.mktemp("studies"), *options) as process:
        yield process


@pytest.fixture
def a_volume(our_server, a_phantom_volume, tmp_path) -> str:
    path: Path = a_phantom_volume.save(tmp_path / "phantom.nii.gz")
    return upload(our_server, path)


@pytest.mark.parametrize(
    ("trouble", "tries"),
    [
        pytest.param(refusal(429, **{"Retry-After": "1"}), 11, id="too many requests"),
        pytest.param(refusal(503), 11, id="busy"),
        pytest.param(PATIENCE_S + 1.0, 11, id="slow"),
    ],
)
def test_what_may_pass_is_waited_for(
    a_model_server, our_server, a_volume, trouble: Reply | float, tries: int
):
    a_model_server.asked.clear()
    a_model_server.before = [trouble]
    with job(our_server, a_volume, [LABEL], **SHOWN) as answer:
        *_, last = [json.loads(line) for line in answer.iter_lines()]
    assert last["event"] == "result", last
    (finding,) = last["result"]["findings"]
    assert [box["slice"] for box in finding["boxes"]] == [3, 4, 5, 6]
    assert len(a_model_server.asked) == tries  # six slices, four of them twice, and one more


def test_what_does_not_pass_is_told_in_one_line(a_model_server, our_server, a_volume):
    a_model_server.before = [refusal(400, "context of 512 tokens exceeded")] * 20
    with job(our_server, a_volume, [LABEL], **SHOWN) as answer:
        failure = json.loads(answer.text.splitlines()[-1])
    a_model_server.before = []
    assert failure["error"] == "model_unavailable", failure
    assert a_model_server.url in failure["detail"]
    assert "context of 512 tokens exceeded" in failure["detail"]
    assert LABEL not in our_server.output
