"""`bird view` on the command line: its help, and what is said when it cannot start."""

import importlib.util
import socket

import pytest
from typer.testing import CliRunner

from bird_vlm.cli import app
from bird_vlm.commands import view

WITH_THE_EXTRA = pytest.mark.skipif(
    importlib.util.find_spec("trame_slicer") is None, reason="needs the extra view"
)


def bird(*words):
    return CliRunner().invoke(app, ["view", *map(str, words)])


def assert_one_line(result, said):
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert said in line


def test_help_teaches_by_example():
    result = bird("--help")
    assert result.exit_code == 0
    assert "bird view scan.nii.gz" in result.stdout


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(view, "_NEEDED", ("no_such_package",))
    result = bird(tmp_path / "scan.nii.gz")
    assert_one_line(result, "no_such_package, which is not installed")
    assert "pip install 'bird-slicer[view]'" in result.stderr


@WITH_THE_EXTRA
def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = bird(tmp_path / "scan.nii.gz", "--port", port)
    assert_one_line(result, f"Port {port} of this computer")
    assert "another --port" in result.stderr


@WITH_THE_EXTRA
def test_a_scan_that_is_not_there_is_named(tmp_path):
    result = bird(tmp_path / "scan.nii.gz", "--port", 0, "--no-browser")
    assert_one_line(result, "scan.nii.gz does not exist. Name a volume file")
