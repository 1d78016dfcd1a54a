"""Starting the server: what can be wrong is said in one line, with exit code 2."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys

import pytest

from bird_server import serve
from bird_server.__main__ import main


def refused(capsys, *arguments: str) -> str:
    """The one line that this start is refused with."""
    assert main([*arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("BIRD_TOKEN", raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "hospital.example"])
def test_other_machines_need_a_token(capsys, tmp_path, host):
    line = refused(capsys, "--studies", str(tmp_path), "--host", host)

    assert host in line
    assert "--token" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_none(host):
    serve.check_access(host, None)


def test_a_token_opens_other_hosts():
    serve.check_access("0.0.0.0", "s3cret")


@pytest.mark.parametrize("token", ["with space", "new\nline", "ümlaut"])
def test_a_token_that_no_header_can_carry_is_refused(capsys, tmp_path, token):
    assert "--token" in refused(capsys, "--studies", str(tmp_path), "--token", token)


def test_a_taken_port_is_named(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        line = refused(capsys, "--studies", str(tmp_path), "--port", port)

    assert port in line
    assert "another --port" in line


def test_a_port_that_does_not_exist_is_named(capsys, tmp_path):
    assert "99999" in refused(capsys, "--studies", str(tmp_path), "--port", "99999")


def test_a_studies_folder_that_cannot_be_made_is_named(capsys, tmp_path):
    file = tmp_path / "file"
    file.touch()

    assert str(file / "studies") in refused(capsys, "--studies", str(file / "studies"))


def test_a_missing_studies_folder_is_made(tmp_path):
    assert serve.made_folder(tmp_path / "a" / "b").is_dir()


def test_missing_monai_label_is_answered_with_what_to_install(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    line = refused(capsys, "--studies", str(tmp_path))

    assert "pip install --no-deps monailabel" in line


def test_the_app_is_found_in_a_checkout_and_in_an_installation(tmp_path, monkeypatch):
    assert (serve.app_folder() / "main.py").is_file()

    installed = tmp_path / "bird_server"
    (installed / "app" / "lib").mkdir(parents=True)
    (installed / "app" / "main.py").touch()
    monkeypatch.setattr(serve, "__file__", str(installed / "serve.py"))
    assert serve.app_folder() == installed / "app"

    (installed / "app" / "main.py").unlink()
    with pytest.raises(serve.ServeError, match=r"main\.py is missing"):
        serve.app_folder()


@pytest.mark.parametrize("module", ["bird_server.serve", "bird_server.service", "bird_server.api"])
def test_the_server_room_does_not_import_torch_itself(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
