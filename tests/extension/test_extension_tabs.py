"""The tabs of the panel as the user works with them: keys, lists, links, files."""

import json

import numpy as np
import pytest

pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6 and its system libraries")

from PySide6.QtCore import QPoint, Qt, QUrl
from PySide6.QtGui import QTextCursor
from PySide6.QtTest import QTest

from BiRDLib import scene as geometry
from BiRDLib import views
from grounding import a_finding, a_grounding
from panel_stand_ins import QFileDialog, wait_for_panel

LOW, HIGH = (9.5, 9.5), (29.5, 24.5)
LABELS, STATUSES = 0, 1


@pytest.fixture
def a_full_panel(a_panel, a_volume, make_view):
    """Aorta 0.3, liver 0.9 and spleen 0.6 on their own slices; the panel is on the screen."""
    make_view().show(a_volume)
    found = [("aorta", range(2, 4), 0.3), ("liver", range(5, 9), 0.9), ("spleen", [12], 0.6)]
    boxes = [a_finding(a_volume, name, k, LOW, HIGH, score=score) for name, k, score in found]
    a_panel.logic.core.findings.add(a_volume, a_grounding(*boxes, absent=["duct"]), "all")
    a_panel.update()
    a_panel.ui.tabs.setCurrentWidget(a_panel.ui.reviewTab)
    _activate(a_panel, a_panel.ui.findingsTable)
    return a_panel


def _activate(panel, widget):
    """Brings the panel to the front and the keyboard to one of its widgets."""
    panel.parent.show()
    panel.parent.activateWindow()
    assert QTest.qWaitForWindowActive(panel.parent)
    widget.setFocus()


def _column(panel, column=LABELS):
    table = panel.ui.findingsTable
    return [table.item(row, column).text() for row in range(table.rowCount())]


def _selected(panel):
    table = panel.ui.findingsTable
    rows = {index.row() for index in table.selectionModel().selectedRows()}
    return [table.item(row, LABELS).text() for row in sorted(rows)]


def _slice(panel, a_volume):
    return views.currentSlice(a_volume.GetScene(), a_volume, "axial")


def test_the_list_shows_what_was_found_and_what_was_not(a_full_panel):
    assert _column(a_full_panel) == ["aorta", "liver", "spleen", "duct"]
    assert _column(a_full_panel, STATUSES) == ["proposed"] * 3 + ["absent"]
    assert a_full_panel.ui.tallyLabel.text().startswith("0 of 3 reviewed")


def test_a_click_jumps_there(a_full_panel, a_volume):
    for row, index in ((1, 7), (2, 12), (0, 3)):
        a_full_panel.ui.findingsTable.selectRow(row)
        assert _slice(a_full_panel, a_volume) == pytest.approx(index, abs=1)


def test_a_head_sorts_and_again_turns_round(a_full_panel):
    head = a_full_panel.ui.findingsTable.horizontalHeader()
    head.sectionClicked.emit(LABELS)
    assert _column(a_full_panel) == ["aorta", "duct", "liver", "spleen"]
    head.sectionClicked.emit(LABELS)
    assert _column(a_full_panel) == ["spleen", "liver", "duct", "aorta"]
    head.sectionClicked.emit(2)
    assert _column(a_full_panel) == ["liver", "spleen", "aorta", "duct"]


def test_filters_and_threshold_narrow_the_list_and_ask_nothing(a_full_panel):
    ui = a_full_panel.ui
    ui.findingsFilterLineEdit.setText("li")
    assert _column(a_full_panel) == ["liver"]
    ui.findingsFilterLineEdit.setText("")
    ui.showFromSlider.setValue(0.5)
    assert _column(a_full_panel) == ["liver", "spleen", "duct"]
    rois = a_full_panel.logic.core.findings.rois(a_full_panel.logic.core.findings.tables()[0])
    assert not rois["1/1"].GetDisplayVisibility()
    ui.statusFilterComboBox.setCurrentText("absent")
    ui.statusFilterComboBox.activated.emit(ui.statusFilterComboBox.currentIndex())
    assert _column(a_full_panel) == ["duct"]


def test_keys_decide_and_go_on_to_what_is_left(a_full_panel):
    ui = a_full_panel.ui
    ui.findingsTable.selectRow(0)
    QTest.keyClick(ui.findingsTable, Qt.Key.Key_A)
    assert _selected(a_full_panel) == ["liver"]
    QTest.keyClick(ui.findingsTable, Qt.Key.Key_R)
    assert _selected(a_full_panel) == ["spleen"]
    assert _column(a_full_panel, STATUSES)[:3] == ["accepted *", "rejected *", "proposed"]
    QTest.keyClick(ui.findingsTable, Qt.Key.Key_E)
    assert ui.editButton.isChecked()
    QTest.keyClick(ui.findingsTable, Qt.Key.Key_E)
    assert not ui.editButton.isChecked()
    QTest.keyClick(ui.findingsTable, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert _column(a_full_panel, STATUSES)[1] == "proposed *"
    QTest.keyClick(ui.findingsTable, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    assert _column(a_full_panel, STATUSES)[1] == "rejected *"


def test_letters_in_text_fields_and_other_tabs_decide_nothing(a_full_panel):
    ui = a_full_panel.ui
    ui.findingsTable.selectRow(0)
    ui.commentLineEdit.setFocus()
    QTest.keyClicks(ui.commentLineEdit, "are")
    assert ui.commentLineEdit.text() == "are"
    ui.tabs.setCurrentWidget(ui.askTab)
    ui.labelsTextEdit.setFocus()
    QTest.keyClicks(ui.labelsTextEdit, "are")
    ui.connectButton.setFocus()
    QTest.keyClick(ui.connectButton, Qt.Key.Key_R)
    assert _column(a_full_panel, STATUSES)[:3] == ["proposed"] * 3


def test_next_and_previous_walk_through_the_list(a_full_panel):
    ui = a_full_panel.ui
    seen = []
    for button in (ui.nextButton, ui.nextButton, ui.nextButton, ui.nextButton, ui.previousButton):
        button.click()
        seen += _selected(a_full_panel)
    assert seen == ["aorta", "liver", "spleen", "spleen", "liver"]


def test_several_at_once_are_one_step(a_full_panel):
    ui = a_full_panel.ui
    ui.findingsTable.selectAll()
    ui.rejectButton.click()
    assert [s.split()[0] for s in _column(a_full_panel, STATUSES)] == ["rejected"] * 3 + ["absent"]
    ui.undoButton.click()
    assert [s.split()[0] for s in _column(a_full_panel, STATUSES)][:3] == ["proposed"] * 3
    assert not ui.undoButton.isEnabled()


def test_name_and_comment_of_the_selected_finding(a_full_panel):
    ui = a_full_panel.ui
    ui.findingsTable.selectRow(1)
    assert ui.nameLineEdit.text() == "liver"
    ui.commentLineEdit.setText("lobulated")
    ui.commentLineEdit.returnPressed.emit()
    ui.nameLineEdit.setText("liver tumor")
    ui.nameLineEdit.returnPressed.emit()
    assert _column(a_full_panel)[1] == "liver tumor"
    ui.findingsTable.selectRow(0)
    assert ui.commentLineEdit.text() == ""
    ui.findingsTable.selectRow(1)
    assert ui.commentLineEdit.text() == "lobulated"


def test_buttons_without_a_selection_say_why(a_full_panel):
    ui = a_full_panel.ui
    assert not ui.acceptButton.isEnabled()
    assert "Select a finding" in ui.acceptButton.toolTip()
    assert "ROI" in ui.addFindingButton.toolTip()
    assert "Accept findings" in ui.segmentsButton.toolTip()


def test_a_drawn_box_becomes_a_finding(a_full_panel, a_scene, a_volume):
    ui = a_full_panel.ui
    roi = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    geometry.placeRoi(roi, a_volume, (0, 0, 0), (9, 9, 9), np.eye(3))
    ui.roiSelector.setCurrentNode(roi)
    ui.newFindingLineEdit.setText("cyst")
    ui.addFindingButton.click()
    assert "cyst" in _column(a_full_panel)
    assert ui.newFindingLineEdit.text() == ""


def test_accepted_findings_are_handed_over(a_full_panel, a_scene, tmp_path, monkeypatch):
    ui = a_full_panel.ui
    ui.findingsTable.selectRow(1)
    ui.acceptButton.click()
    assert ui.usedLabel.text() == "1 accepted or edited findings"
    ui.segmentsButton.click()
    ui.segmentsButton.click()
    segmentation = ui.segmentationSelector.currentNode().GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 2
    ui.cropButton.click()
    assert a_scene.GetFirstNodeByName("Crop of scan") is not None
    monkeypatch.setattr(QFileDialog, "chosen", str(tmp_path / "f.mrk.json"))
    ui.saveMarkupsButton.click()
    assert len(json.loads((tmp_path / "f.mrk.json").read_text())["markups"]) == 1
    assert "Written" in ui.logTextEdit.toPlainText()


def test_names_are_completed_line_by_line(a_connected_panel):
    panel = a_connected_panel
    edit = panel.ui.labelsTextEdit
    _activate(panel, edit)
    edit.setPlainText("liver\n")
    edit.moveCursor(QTextCursor.MoveOperation.End)
    QTest.keyClicks(edit, "spl")
    completer = panel.asking._completer
    assert completer.completionModel().index(0, 0).data() == "spleen"
    assert completer.popup().isVisible()
    completer.activated.emit("spleen")
    assert edit.toPlainText() == "liver\nspleen"
    completer.popup().hide()


def test_a_region_adds_its_names_and_asking_is_remembered(a_connected_panel, a_server):
    ui = a_connected_panel.ui
    combo = ui.presetComboBox
    combo.setCurrentText("Abdomen")
    combo.activated.emit(combo.currentIndex())
    assert ui.labelsTextEdit.toPlainText() == "liver\nspleen"
    a_server.grounds({"event": "error"})
    ui.extentComboBox.setCurrentText("whole volume")
    ui.groundButton.click()
    wait_for_panel(a_connected_panel)
    assert [combo.itemText(n) for n in range(combo.count())][-2:] == ["liver", "spleen"]


def test_ctrl_enter_asks_from_the_tab(a_connected_panel, a_server):
    panel = a_connected_panel
    panel.ui.labelsTextEdit.setPlainText("liver")
    panel.ui.extentComboBox.setCurrentText("whole volume")
    _activate(panel, panel.ui.labelsTextEdit)
    enter, control = Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier
    QTest.keyClick(panel.ui.labelsTextEdit, enter, control)
    wait_for_panel(panel)
    assert len(a_server.asked("/ground")) == 1


def test_an_answer_has_links_that_jump(a_connected_panel, a_server, a_volume, make_view):
    view = make_view().show(a_volume)
    panel, ui = a_connected_panel, a_connected_panel.ui
    text = "a <ref>cyst</ref><box>(100,100),(400,400)</box>"
    a_server.says("POST", "/ask", 200, {"model": "m", "text": text, "slice": 9, "plane": "axial"})
    ui.questionLineEdit.setText("What is it?")
    ui.questionLineEdit.returnPressed.emit()
    wait_for_panel(panel)
    assert "a cyst (axial slice 9)" in ui.conversationBrowser.toPlainText()
    assert ui.questionLineEdit.text() == ""
    ui.conversationBrowser.anchorClicked.emit(QUrl("box:0/1"))
    assert _slice(panel, a_volume) == 9
    assert [outline.words for outline in panel.logic.core.pool.outlines(view.node)] == ["cyst 1.00"]
    ui.newConversationButton.click()
    assert panel.logic.core.pool.outlines(view.node) == []
    ui.conversationBrowser.anchorClicked.emit(QUrl("box:0/1"))
    assert "no longer there" in ui.logTextEdit.toPlainText()


def test_a_conversation_ends_with_its_scene(
    a_connected_panel, a_server, a_scene, a_volume, make_view
):
    """Another scene may use the same node ID for another scan."""
    make_view().show(a_volume)
    panel, ui = a_connected_panel, a_connected_panel.ui
    answer = {"model": "m", "text": "a cyst", "slice": 9, "plane": "axial"}
    a_server.says("POST", "/ask", 200, answer)
    ui.questionLineEdit.setText("What is it?")
    ui.askButton.click()
    wait_for_panel(panel)
    a_scene.Clear(0)
    assert panel.asking.conversation.turns == []
    assert ui.conversationBrowser.toPlainText() == ""


def test_an_imported_scene_shows_its_findings_from_the_threshold_on(a_full_panel, a_scene):
    table = a_full_panel.logic.core.findings.tables()[0]
    roi = a_full_panel.logic.core.findings.rois(table)["1/1"]
    a_full_panel.ui.showFromSlider.setValue(0.5)
    roi.GetDisplayNode().SetVisibility(True)
    a_scene.InvokeEvent(a_scene.EndImportEvent)
    assert not roi.GetDisplayVisibility()


def _case(name, to_review, missing=()):
    counts = {"proposed": to_review, "accepted": 1, "edited": 0, "rejected": 1}
    fields = {"volume_digest": name * 4, "volume_id": None, "study": None, "name": name}
    return dict(fields, counts=counts, missing=list(missing), notes=0)


def test_cases_are_listed_and_chosen(a_connected_panel, a_server):
    panel, ui = a_connected_panel, a_connected_panel.ui
    cases = [_case("ct_1", 3, ["spleen"]), _case("ct_2", 0)]
    a_server.says("GET", "/cases", 200, {"cases": cases, "total": 2})
    ui.refreshCasesButton.click()
    wait_for_panel(panel)
    rows = [[ui.casesTable.item(r, c).text() for c in range(4)] for r in range(2)]
    assert rows == [["ct_1", "3", "2", "spleen"], ["ct_2", "0", "2", ""]]
    choice = {"case": cases[0], "score": 0.7, "reasons": ["liver: score 0.52"], "left": 1}
    a_server.says("GET", "/cases/next", 200, choice)
    ui.chooseCaseButton.click()
    wait_for_panel(panel)
    assert ui.reasonLabel.text() == "ct_1 (liver: score 0.52). 1 to review."
    assert "does not lie among the server's studies" in ui.logTextEdit.toPlainText()


def test_remarks_and_reports(a_connected_panel, a_server, a_volume, tmp_path, monkeypatch):
    panel, ui = a_connected_panel, a_connected_panel.ui
    ui.noteLineEdit.setText("motion")
    ui.noteLineEdit.returnPressed.emit()
    wait_for_panel(panel)
    assert ui.notesLabel.text().endswith(": motion")
    panel.logic.core.findings.table(a_volume).SetAttribute("BiRD.case", "ab" * 16)
    report = tmp_path / "report.html"
    a_server.script["GET", "/cases/" + "ab" * 16 + "/export/html"] = lambda handler, body: (
        handler.answer(200, b"<p>report</p>")
    )
    monkeypatch.setattr(QFileDialog, "chosen", str(report))
    ui.exportButton.click()
    wait_for_panel(panel)
    assert report.read_bytes() == b"<p>report</p>"


def test_the_panel_fits_a_narrow_dock(a_full_panel):
    """Slicer's module panel is about 420 pixels wide; nothing may force it wider."""
    for index in range(a_full_panel.ui.tabs.count()):
        a_full_panel.ui.tabs.setCurrentIndex(index)
        assert a_full_panel.parent.minimumSizeHint().width() <= 420
    assert a_full_panel.ui.tabs.mapTo(a_full_panel.parent, QPoint(0, 0)).x() >= 0
