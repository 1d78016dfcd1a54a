"""The panel: BiRD.py and BiRD.ui as they ship, under PySide6, on a real scene and over HTTP."""

import ast
import re
import sys
import types
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import slicer

pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6 and its system libraries")

from PySide6.QtCore import QSettings

import panel_stand_ins
from BiRDLib import scene as geometry
from BiRDLib import views
from grounding import a_finding, a_grounding, as_json
from panel_stand_ins import wait_for_panel
from scripted_server import error

MODULE = Path(__file__).parents[2] / "extension" / "BiRD"
UI = MODULE / "Resources" / "UI" / "BiRD.ui"
PANEL = [MODULE / "BiRD.py", *sorted(MODULE.glob("BiRDPanel/*.py"))]
LOW, HIGH = (9.5, 9.5), (29.5, 24.5)


def test_every_widget_that_python_uses_is_in_the_ui():
    used = set(re.findall(r"\bui\.(\w+)", "".join(path.read_text() for path in PANEL)))
    names = {widget.get("name") for widget in ET.parse(UI).iter("widget")}
    assert used
    assert used <= names


def test_every_parameter_has_a_widget(a_module):
    from BiRDLib.parameters import BiRDParameterNode

    widgets = {
        element.find("string").text
        for element in ET.parse(UI).iter("property")
        if element.get("name") == "SlicerParameterName"
    }
    assert set(BiRDParameterNode.fields) == widgets


def test_node_selectors_get_the_scene():
    root = ET.parse(UI)
    selectors = {
        w.get("name") for w in root.iter("widget") if w.get("class") == "qMRMLNodeComboBox"
    }
    connected = {connection.find("receiver").text for connection in root.iter("connection")}
    assert selectors == connected == {"volumeSelector", "roiSelector", "segmentationSelector"}


def test_every_input_says_what_it_is_for():
    inputs = ("QLineEdit", "QTextEdit", "QComboBox", "QCheckBox", "qMRMLNodeComboBox")
    for widget in ET.parse(UI).iter("widget"):
        if widget.get("class") in inputs:
            properties = {element.get("name") for element in widget.findall("property")}
            assert "toolTip" in properties, widget.get("name")


def test_ui_loads(a_qt_application):
    panel = panel_stand_ins.load_ui(UI)
    assert isinstance(panel, panel_stand_ins.qMRMLWidget)
    assert panel_stand_ins.named_widgets(panel).groundButton.isEnabled() is False


def test_buttons_are_disabled_with_the_reason_until_connected(a_panel):
    for button in (a_panel.ui.groundButton, a_panel.ui.referButton):
        assert not button.isEnabled()
        assert button.toolTip() == "Connect to a server first."


def test_connecting_enables_asking_and_is_remembered(a_connected_panel, a_server):
    ui = a_connected_panel.ui
    assert ui.statusLabel.text() == "Connected: bird-mini on cpu"
    assert "liver, spleen" in ui.labelsTextEdit.toolTip()
    assert "one name per line" in ui.groundButton.toolTip()
    ui.labelsTextEdit.setPlainText("liver")
    assert ui.groundButton.isEnabled()
    assert QSettings().value("BiRD/servers") == a_server.address


def test_a_failed_connection_says_why(a_qt_application, a_panel, a_server):
    a_server.says("GET", "/health", 401, error("unauthorized", "No token.", "Enter it."))
    a_panel.ui.serverComboBox.setEditText(a_server.address)
    a_panel.ui.connectButton.click()
    wait_for_panel(a_panel)
    assert a_panel.ui.statusLabel.text() == "No token. Enter it."
    assert not a_panel.ui.groundButton.isEnabled()
    assert a_panel.ui.connectButton.isEnabled()


def test_changing_the_address_disconnects(a_connected_panel):
    a_connected_panel.ui.serverComboBox.lineEdit().textEdited.emit("elsewhere")
    assert a_connected_panel.ui.statusLabel.text() == "Not connected"
    assert a_connected_panel.logic.core.health is None


def test_asking_fills_scene_log_and_progress(
    a_qt_application, a_connected_panel, a_server, a_volume, make_view
):
    view = make_view().show(a_volume)
    finding = a_finding(a_volume, "liver", [5], LOW, HIGH)
    grounding = a_grounding(finding, absent=["spleen"])
    a_server.grounds({"event": "result", "result": as_json(grounding)})
    ui = a_connected_panel.ui
    ui.labelsTextEdit.setPlainText("liver\nspleen")
    ui.extentComboBox.setCurrentText("whole volume")
    ui.groundButton.click()
    assert ui.cancelButton.isEnabled()
    assert not ui.groundButton.isEnabled()
    wait_for_panel(a_connected_panel)
    log = ui.logTextEdit.toPlainText()
    assert "Asked: liver, spleen (window: L 60000 W 120000)" in log
    assert "Found: liver 0.90." in log
    assert "Not found: spleen." in log
    assert ui.progressBar.value() == 100
    assert ui.groundButton.isEnabled()
    assert a_server.asked("/ground")[0]["slices"] is None
    assert views.currentSlice(a_volume.GetScene(), a_volume, "axial") == 5
    assert len(a_connected_panel.logic.core.pool.outlines(view.node)) == 1


def test_a_box_gets_its_name(a_qt_application, a_connected_panel, a_server, a_scene, a_volume):
    told = {"model": "m", "text": "spleen", "score": 0.8, "slice": 6, "plane": "axial"}
    a_server.says("POST", "/refer", 200, told)
    ui = a_connected_panel.ui
    assert "ROI" in ui.referButton.toolTip()
    roi = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    geometry.placeRoi(roi, a_volume, (0, 0, 0), (9, 9, 9), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    ui.roiSelector.setCurrentNode(roi)
    ui.referButton.click()
    wait_for_panel(a_connected_panel)
    assert ui.answerLabel.text() == "spleen (80%, axial slice 6)"


def test_cancel_gives_the_panel_back(a_qt_application, a_connected_panel, a_server):
    a_server.grounds(lambda: a_server.released.wait(20))
    ui = a_connected_panel.ui
    ui.labelsTextEdit.setPlainText("liver")
    ui.extentComboBox.setCurrentText("whole volume")
    ui.groundButton.click()
    ui.cancelButton.click()
    wait_for_panel(a_connected_panel, 5)
    assert "Cancelled." in ui.logTextEdit.toPlainText()
    assert ui.groundButton.isEnabled()


def test_a_failed_question_is_told_in_the_panel(a_qt_application, a_connected_panel, a_server):
    a_server.says("POST", "/ground", 422, error("unknown_label", "No 'livr'.", "Known: liver."))
    ui = a_connected_panel.ui
    ui.labelsTextEdit.setPlainText("livr")
    ui.extentComboBox.setCurrentText("whole volume")
    ui.groundButton.click()
    wait_for_panel(a_connected_panel)
    assert "No 'livr'. Known: liver." in ui.logTextEdit.toPlainText()
    assert ui.progressLabel.text() == "Failed"


def test_closing_the_scene_and_coming_back(a_connected_panel, a_scene, make_volume):
    a_connected_panel.ui.labelsTextEdit.setPlainText("liver")
    assert a_connected_panel.ui.groundButton.isEnabled()
    a_scene.Clear(0)
    assert "No volume is chosen" in _tooltip_after_reentering(a_connected_panel)
    make_volume()
    a_connected_panel.exit()
    a_connected_panel.enter()
    assert a_connected_panel.ui.volumeSelector.currentNode() is not None


def _tooltip_after_reentering(panel):
    panel.exit()
    panel.enter()
    return panel.ui.groundButton.toolTip()


def test_the_self_test_of_the_module_passes(a_module):
    result = a_module.BiRDTest("runTest").run()
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.failures + result.errors


def test_slots_do_not_wait():
    """No slot may block Slicer: neither sleeping nor HTTP in BiRD.py and BiRDPanel."""
    calls = {
        node.func.attr
        for path in PANEL
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not calls & {"sleep", "exec_", "processEvents", "delayDisplay", "urlopen"}


def test_sample_data_is_offered_when_slicer_has_started(a_module, monkeypatch):
    offered, asked = [], []
    source = types.SimpleNamespace(
        registerCustomSampleDataSource=lambda **what: offered.append(what)
    )
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=source))
    app = types.SimpleNamespace(connect=lambda signal, slot: asked.append((signal, slot)))
    monkeypatch.setattr(slicer, "app", app, raising=False)
    monkeypatch.setattr(slicer.util, "TESTING_DATA_URL", "https://data.example/", raising=False)
    a_module.BiRD(types.SimpleNamespace())
    ((signal, slot),) = asked
    assert signal == "startupCompleted()"
    slot()
    assert {entry["category"] for entry in offered} == {"BiRD"}
    for entry in offered:
        digest = entry["checksums"].removeprefix("SHA256:")
        assert re.fullmatch("[0-9a-f]{64}", digest)
        assert entry["uris"] == "https://data.example/SHA256/" + digest
