"""Choices of a model elsewhere that cannot work are one line before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from elsewhere import bird, error_line, ground


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--model", "my-finetune"], "dialect: how 'my-finetune' writes", id="unknown"),
        pytest.param(["--model", "medgemma-27b"], "name it with --dialect", id="not published"),
        pytest.param(["--dialect", "latin"], "'latin' is unknown; known are bird", id="dialect"),
        pytest.param(["--device", "cuda"], "backend: device, precision and", id="device"),
        pytest.param(["--timeout", "0"], "timeout_s: must be above 0", id="timeout"),
        pytest.param(["--backend", "gpu:8000"], "is not an http or https address", id="address"),
        pytest.param(["--backend", "http://me:pw@gpu/v1"], "OPENAI_API_KEY instead", id="password"),
        pytest.param(["--cache", "notes.txt"], "cache: notes.txt cannot be used", id="cache"),
    ],
)
def test_choices_that_cannot_work_are_one_line(
    a_server, scan, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("a file")
    line = error_line(ground(a_server, scan, *arguments))
    assert said in line
    assert "pw@" not in line
    assert a_server.asked == []


def test_a_dialect_without_a_backend_is_refused(scan):
    result = bird("ground", scan, "--text", "liver", "--dialect", "qwen3-vl")
    assert "name their --backend too" in error_line(result)
