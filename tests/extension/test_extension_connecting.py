"""Servers as the user has them: remembered, tested, consented to, started here."""

import sys
import textwrap
import time

import pytest

pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6 and its system libraries")

from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication

from BiRDLib.background import Background
from BiRDLib.client import Client
from BiRDLib.errors import UnusableInput
from BiRDLib.localserver import LocalServer, command, find_program
from panel_stand_ins import QFileDialog, wait_for_panel
from saved_scene import saved_text
from scripted_server import HEALTH, ScriptedServer, error

LOCAL_SERVER = """
    #!{python}
    import http.server, json, os, sys, time

    print("loading", sys.argv[1:], flush=True)
    assert "PYTHONHOME" not in os.environ


    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["Authorization"] == "Bearer " + os.environ["BIRD_TOKEN"]
            body = json.dumps({health} if known else {{}}).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


    server = http.server.HTTPServer(("127.0.0.1", 0), Health)
    url = "http://127.0.0.1:%d" % server.server_address[1]
    print("BiRD serves bird-mini on cpu at " + url + ", studies in " + sys.argv[-1], flush=True)
    server.serve_forever()
"""


@pytest.fixture
def a_program(tmp_path):
    """What stands for an installed `bird`: a process that says and answers what `bird serve` does.

    The real one is started in test_extension_end_to_end.py.
    """
    path = tmp_path / "bin" / "bird"
    path.parent.mkdir()
    text = textwrap.dedent(LOCAL_SERVER).lstrip()
    path.write_text(text.format(python=sys.executable, health=HEALTH))
    path.chmod(0o755)
    return path


@pytest.fixture
def another_server():
    server = ScriptedServer()
    yield server
    server.close()


def _connect(panel, address):
    panel.ui.serverComboBox.setEditText(address)
    panel.ui.connectButton.click()
    wait_for_panel(panel)


def _offered(panel):
    box = panel.ui.serverComboBox
    return [box.itemText(n) for n in range(box.count())]


def test_servers_that_answered_are_offered_the_last_one_first(
    a_panel, a_module, a_server, another_server
):
    _connect(a_panel, a_server.address)
    _connect(a_panel, another_server.address)
    _connect(a_panel, "127.0.0.1:1")
    assert _offered(a_panel) == [another_server.address, a_server.address]
    _connect(a_panel, a_server.address)
    assert _offered(a_panel) == [a_server.address, another_server.address]
    again = a_module.BiRDWidget(a_panel.parent)
    again.setup()
    assert _offered(again) == [a_server.address, another_server.address]
    assert again.ui.serverComboBox.currentText() == a_server.address
    again.cleanup()


def test_tokens_are_kept_nowhere(a_panel, a_server_with_token, a_scene, tmp_path):
    a_panel.ui.tokenLineEdit.setText(a_server_with_token.token)
    _connect(a_panel, a_server_with_token.address)
    assert a_panel.ui.statusLabel.text().startswith("Connected")
    settings = QSettings()
    kept = [str(settings.value(key)) for key in settings.allKeys()]
    assert a_server_with_token.address in kept
    assert not any(a_server_with_token.token in value for value in kept)
    assert a_server_with_token.token not in saved_text(a_scene, tmp_path)
    assert a_server_with_token.token not in a_panel.ui.logTextEdit.toPlainText()


def test_a_server_from_the_list_does_not_get_the_token_of_another(a_connected_panel):
    ui = a_connected_panel.ui
    ui.tokenLineEdit.setText("secret")
    ui.serverComboBox.activated.emit(0)
    assert ui.tokenLineEdit.text() == ""
    assert ui.statusLabel.text() == "Not connected"


def test_testing_tells_and_changes_nothing(a_connected_panel, a_server, another_server):
    panel, ui = a_connected_panel, a_connected_panel.ui
    ui.serverComboBox.setEditText(another_server.address)
    ui.testButton.click()
    assert not ui.testButton.isEnabled()
    assert "cancel" in ui.testButton.toolTip()
    wait_for_panel(panel)
    assert ui.statusLabel.text().startswith("Works: BiRD 0.1.0, bird-mini on cpu, answers in ")
    assert panel.logic.core.client.address.url.endswith(a_server.address)
    another_server.says("GET", "/health", 401, error("unauthorized", "No token.", "Enter it."))
    ui.testButton.click()
    wait_for_panel(panel)
    assert ui.statusLabel.text() == "Does not work: No token. Enter it."
    assert panel.logic.core.health is not None


def test_consent_is_for_one_computer_and_remembered(a_panel, a_server, a_module, a_volume):
    core, ui = a_panel.logic.core, a_panel.ui

    def remote(host):
        def make(url, token):
            client = Client(a_server.address, token)
            client.address.host = host
            client.health = lambda: Client(a_server.address).health()
            return client

        core._make_client = make
        _connect(a_panel, host)

    assert ui.allowRemoteCheckBox.toolTip() == "Connect to a server first."
    remote("one.example")
    assert ui.allowRemoteCheckBox.text() == "Images may go to one.example"
    assert "one.example is another computer" in core.can_send(a_volume)[1]
    ui.allowRemoteCheckBox.click()
    assert core.can_send(a_volume) == (True, "")
    remote("two.example")
    assert not ui.allowRemoteCheckBox.isChecked()
    assert "two.example is another computer" in core.can_send(a_volume)[1]
    remote("one.example")
    assert ui.allowRemoteCheckBox.isChecked()
    assert QSettings().value("BiRD/allowedHosts") == "one.example"
    ui.allowRemoteCheckBox.click()
    assert core.can_send(a_volume)[0] is False
    assert not QSettings().value("BiRD/allowedHosts")


def test_consent_is_not_asked_for_this_computer(a_connected_panel):
    box = a_connected_panel.ui.allowRemoteCheckBox
    assert not box.isEnabled()
    assert "nothing leaves it" in box.toolTip()


def test_a_server_of_our_own_starts_is_connected_to_and_ends(a_panel, a_program, monkeypatch):
    ui = a_panel.ui
    monkeypatch.setattr(QFileDialog, "chosen", str(a_program))
    ui.chooseProgramButton.click()
    QSettings().setValue("BiRD/studies", str(a_program.parent / "studies"))
    ui.startServerButton.click()
    assert ui.statusLabel.text() == "The server loads its model ..."
    wait_for_panel(a_panel)
    assert ui.statusLabel.text() == "Connected: bird-mini on cpu"
    assert "server: loading ['serve', '--port', '0', '--studies'" in ui.logTextEdit.toPlainText()
    assert ui.startServerButton.text() == "Stop it"
    assert _offered(a_panel) == ["127.0.0.1:8000"]
    ui.startServerButton.click()
    _wait(lambda: not a_panel.connecting.local.running)
    assert "has ended" in ui.statusLabel.text()
    assert a_panel.logic.core.health is None
    assert ui.startServerButton.text() == "Start one here"


def test_a_server_of_our_own_ends_with_the_panel(a_panel, a_program):
    QSettings().setValue("BiRD/serverProgram", str(a_program))
    QSettings().setValue("BiRD/studies", str(a_program.parent / "studies"))
    a_panel.ui.startServerButton.click()
    wait_for_panel(a_panel)
    process = a_panel.connecting.local._process
    a_panel.cleanup()
    assert process.poll() is not None


def test_where_no_server_is_installed_the_way_to_one_is_told(a_panel, monkeypatch):
    monkeypatch.setenv("PATH", "")
    a_panel.ui.startServerButton.click()
    assert "No BiRD server is installed" in a_panel.ui.statusLabel.text()
    assert "pip install 'bird-slicer[server]'" in a_panel.ui.statusLabel.text()


def test_a_server_that_fails_says_why_in_the_log(a_program, tmp_path):
    a_program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such model')")
    background, said, ended = Background(), [], []
    server = LocalServer(background, said.append, pytest.fail, ended.append)
    server.start(str(a_program), tmp_path / "studies")
    end = time.monotonic() + 10
    while not ended and time.monotonic() < end:
        background.pump()
    assert (said, ended) == (["no such model"], [1])
    assert not server.running


@pytest.mark.parametrize(
    ("program", "start"),
    [
        pytest.param("/opt/bird/bin/bird", ["serve"], id="bird"),
        pytest.param("/opt/bird/bin/python3.11", ["-m", "bird_server"], id="python"),
        pytest.param("C:/bird/Python.exe", ["-m", "bird_server"], id="windows"),
    ],
)
def test_the_program_is_bird_or_a_python(program, start):
    words = command(program, "studies")
    assert words == [program, *start, "--port", "0", "--studies", "studies"]


def test_a_program_that_is_none_is_refused(tmp_path):
    with pytest.raises(UnusableInput, match="is no program"):
        find_program(str(tmp_path / "bird"))


def _wait(until, limit_s=10.0):
    end = time.monotonic() + limit_s
    while not until():
        assert time.monotonic() < end
        QApplication.processEvents()
