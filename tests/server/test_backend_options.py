"""What `bird serve` hands to the server arrives there as it was chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bird_server.__main__ import arguments, main, running_of
from bird_vlm.backend import Backend
from bird_vlm.commands.running import arguments_of
from bird_vlm.running import USUAL, Running

URL = "http://gpu:8000/v1"


@pytest.fixture
def own_environment() -> Iterator[None]:
    """A start sets variables; they go again."""
    before = dict(os.environ)
    os.environ.pop("BIRD_TOKEN", None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    "running",
    [
        pytest.param(USUAL, id="usual"),
        pytest.param(Running("cpu", "bfloat16", "int8"), id="here"),
        pytest.param(Running(backend=Backend(URL)), id="elsewhere"),
        pytest.param(
            Running(backend=Backend(URL, "gemma3", "MY_KEY", 3, 7.5, Path("some folder"))),
            id="elsewhere, all chosen",
        ),
    ],
)
def test_the_same_choices_come_out(running):
    given = vars(arguments(["--studies", "s", *arguments_of(running)]))
    assert running_of(given) == running
    here, elsewhere = vars(Running()), vars(Backend(URL))
    assert not {*here, *elsewhere, "timeout"} & set(given)  # what is left is the server's own


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--dialect", "qwen3-vl"], "name their --backend too", id="no backend"),
        pytest.param(["--backend", "gpu:8000"], "is not an http or https address", id="address"),
        pytest.param(["--backend", URL, "--device", "cpu"], "backend: device, preci", id="device"),
        pytest.param(["--backend", URL, "--concurrency", "0"], "concurrency: must", id="none"),
        pytest.param(
            ["--backend", "http://127.0.0.1:9/v1", "--model", "qwen3-vl-4b", "--port", "0"],
            "endpoint http://127.0.0.1:9/v1, model 'qwen3-vl-4b': cannot be reached",
            id="nobody there",
        ),
        pytest.param(
            ["--backend", URL, "--model", "my-finetune", "--port", "0"],
            "name it with --dialect, one of bird",
            id="unknown dialect",
        ),
    ],
)
def test_choices_that_cannot_work_end_the_start_with_one_line(
    options, said, capsys, tmp_path, own_environment
):
    pytest.importorskip("monailabel", reason="monailabel is not installed (see README, server)")
    assert main(["--studies", str(tmp_path), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
