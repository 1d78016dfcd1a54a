"""Starting the server: what can be wrong is said in one line, with exit code 2."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys

import pytest

from bird_server import serve
from bird_server.__main__ import access_of, arguments, main
from bird_server.access.tokens import Tokens
from bird_server.serve import Access


def refused(capsys, *arguments: str) -> str:
    """The one line that this start is refused with."""
    assert main([*arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("BIRD_TOKEN", raising=False)
    monkeypatch.delenv("BIRD_READ_TOKEN", raising=False)


def access(*options: str) -> Access:
    """What these options say."""
    return access_of(vars(arguments(["--studies", "s", *options])))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "hospital.example"])
def test_other_machines_need_a_token(capsys, tmp_path, host):
    line = refused(capsys, "--studies", str(tmp_path), "--host", host)

    assert host in line
    assert "--token-file" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_none(host):
    serve.check_access(host, Access())


def test_a_token_opens_other_hosts():
    serve.check_access("0.0.0.0", Access(Tokens("s3cret")))


@pytest.mark.parametrize("token", ["with space", "new\nline", "ümlaut", "x" * 1000])
def test_a_token_that_no_header_can_carry_is_refused(capsys, tmp_path, token):
    line = refused(capsys, "--studies", str(tmp_path), "--token", token)

    assert "--token" in line
    assert token not in line


def test_tokens_come_from_files(tmp_path):
    (tmp_path / "write").write_text("change\n")
    (tmp_path / "read").write_text("look")

    given = access(
        "--token-file", str(tmp_path / "write"), "--read-token-file", str(tmp_path / "read")
    )

    assert given.tokens == Tokens(write="change", read="look")


def test_tokens_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("BIRD_TOKEN", "change")
    monkeypatch.setenv("BIRD_READ_TOKEN", "look")

    assert access().tokens == Tokens(write="change", read="look")


def test_a_file_counts_more_than_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BIRD_TOKEN", "old")
    (tmp_path / "write").write_text("new\n")

    assert access("--token-file", str(tmp_path / "write")).tokens.write == "new"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no such file"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\n", id="empty line"),
        pytest.param(b"one\ntwo\n", id="two lines"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"with space", id="blank"),
    ],
)
def test_a_token_file_that_holds_none_is_named(capsys, tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)

    line = refused(capsys, "--studies", str(tmp_path), "--token-file", str(file))

    assert "--token-file" in line


def test_a_token_is_given_once(capsys, tmp_path):
    options = ("--token", "s3cret", "--token-file", str(tmp_path / "token"))

    assert "not both" in refused(capsys, "--studies", str(tmp_path), *options)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        pytest.param(Tokens("same", "same"), "choose another", id="one for both"),
        pytest.param(Tokens(None, "look"), "write token as well", id="readers only"),
    ],
)
def test_tokens_that_make_no_sense_are_refused(tokens, says):
    with pytest.raises(serve.ServeError, match=says):
        serve.check_access("127.0.0.1", Access(tokens))


@pytest.mark.parametrize("origin", ["*", "viewer.example", "https://viewer.example/", "null"])
def test_an_origin_that_no_browser_sends_is_refused(capsys, tmp_path, origin):
    line = refused(capsys, "--studies", str(tmp_path), "--allow-origin", origin)

    assert f"--allow-origin {origin}" in line


def test_origins_and_the_log_are_chosen():
    given = access(
        *("--allow-origin", "https://a.example", "--allow-origin", "http://b:1"),
        *("--log-format", "json", "--log-questions"),
    )

    assert given == Access(Tokens(), ("https://a.example", "http://b:1"), "json", True)


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


@pytest.mark.parametrize(
    "module", ["bird_server.serve", "bird_server.service", "bird_server.routes.api"]
)
def test_the_server_room_does_not_import_torch_itself(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
