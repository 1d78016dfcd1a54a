"""The BiRD module of 3D Slicer: its entry in the module list, its panel, its self-test.

Slots only. What happens between scene and server is in BiRDLib/logic.py; the panel's look is in
Resources/UI/BiRD.ui.
"""

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from BiRDLib import answers
from BiRDLib import scene as geometry
from BiRDLib.background import Background
from BiRDLib.errors import Cancelled
from BiRDLib.findings import Findings
from BiRDLib.logic import Logic
from BiRDLib.question import question_of

SERVER_SETTING = "BiRD/server"
DEFAULT_SERVER = "127.0.0.1:8000"
PUMP_MS = 30


class BiRD(ScriptedLoadableModule):
    """What Slicer shows in its list of modules."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "BiRD"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Markups", "Tables", "SubjectHierarchy"]
        self.parent.contributors = ["The BiRD for 3D Slicer maintainers"]
        self.parent.helpText = _(
            "Ask where a structure is and get editable boxes; draw a box and get its name. The"
            " answers come from a BiRD server: start one with <code>bird serve</code>."
        )
        self.parent.acknowledgementText = _(
            "BiRD is a research tool. Its answers are suggestions to be reviewed, not a diagnosis."
        )


class BiRDLogic(ScriptedLoadableModuleLogic):
    """The module's logic for this application's scene; `core` does the work."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.background = Background()
        self.core = Logic(slicer.mrmlScene, self.background)

    def getParameterNode(self):
        # Not at the top: when Slicer reads this file, the Markups module may not be loaded yet.
        from BiRDLib.parameters import BiRDParameterNode

        return BiRDParameterNode(super().getParameterNode())


class BiRDWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/BiRD.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = BiRDLogic()
        self._timer = qt.QTimer()
        self._timer.interval = PUMP_MS
        self._timer.timeout.connect(self.onPump)
        self.ui.serverLineEdit.text = qt.QSettings().value(SERVER_SETTING, DEFAULT_SERVER)
        self._connectSignals()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self._useParameterNode()

    def cleanup(self):
        self._timer.stop()
        self.logic.core.close()
        self._releaseParameterNode()
        self.removeObservers()

    def enter(self):
        self._useParameterNode()

    def exit(self):
        self._releaseParameterNode()

    def onSceneStartClose(self, caller, event):
        self.logic.core.abandon()
        self._releaseParameterNode()

    def onSceneEndClose(self, caller, event):
        self._showProgress(0.0, "")
        if self.parent.isEntered:
            self._useParameterNode()

    def onPump(self):
        self.logic.background.pump()
        if not self.logic.core.busy:
            self._timer.stop()
            self._updateButtons()

    def onConnect(self, *ignored):
        self._say(_("Connecting ..."))
        self.logic.core.connect(
            self.ui.serverLineEdit.text,
            self.ui.tokenLineEdit.text,
            self.onConnected,
            self.onConnectionFailed,
        )
        self._working()

    def onConnected(self, health):
        qt.QSettings().setValue(SERVER_SETTING, self.ui.serverLineEdit.text)
        self._say(_("Connected: {model} on {device}").format(
            model=health.model, device=health.device
        ))  # fmt: skip
        names = sorted({name for names in health.labels.values() for name in names})
        known = ", ".join(names) or _("any words")
        self.ui.labelsTextEdit.toolTip = _("The model knows: {names}").format(names=known)
        self._updateButtons()

    def onConnectionFailed(self, error):
        self._say(error.advice)
        self._updateButtons()

    def onServerEdited(self, *ignored):
        if self.logic.core.health is not None:
            self.logic.core.disconnect()
            self._say(_("Not connected"))
            self._updateButtons()

    def onAllowRemote(self, allowed):
        self.logic.core.allow_remote = bool(allowed)
        self._updateButtons()

    def onWholeVolume(self, whole):
        if self._parameterNode is not None:
            self._parameterNode.wholeVolume = bool(whole)

    def onGround(self, *ignored):
        question = question_of(self._parameterNode)
        self._logWindow(question)
        self.logic.core.ground(question, self.onGrounded, self.onFailed, self._showProgress)
        self._working()

    def onGrounded(self, grounding, rois):
        found = ", ".join(roi.GetName() for roi in rois) or _("nothing")
        absent = ", ".join(grounding.absent)
        self._log(_("Found: {found}.").format(found=found))
        if absent:
            self._log(_("Not found: {absent}.").format(absent=absent))
        self._showProgress(1.0, _("Done"))
        if rois and self._parameterNode is not None and self._parameterNode.wholeVolume:
            geometry.jumpTo(slicer.mrmlScene, rois[0])
        self._updateButtons()

    def onRefer(self, *ignored):
        question = question_of(self._parameterNode)
        self.ui.answerLabel.text = ""
        roi = self._parameterNode.roi
        self.logic.core.refer(question, roi, self.onReferred, self.onFailed, self._showProgress)
        self._working()

    def onReferred(self, answer):
        words = _("{text} ({score:.0%}, {plane} slice {slice})").format(
            text=answer.text, score=answer.score, plane=answer.plane, slice=answer.slice
        )
        self.ui.answerLabel.text = words
        self._log(words)
        self._showProgress(1.0, _("Done"))
        self._updateButtons()

    def onFailed(self, error):
        self._showProgress(0.0, "" if isinstance(error, Cancelled) else _("Failed"))
        self._log(error.advice)
        self._updateButtons()

    def onCancel(self, *ignored):
        self.logic.core.cancel()
        self._showProgress(0.0, _("Cancelling ..."))

    def _connectSignals(self):
        self.ui.connectButton.clicked.connect(self.onConnect)
        self.ui.serverLineEdit.textEdited.connect(self.onServerEdited)
        self.ui.serverLineEdit.returnPressed.connect(self.onConnect)
        self.ui.tokenLineEdit.textEdited.connect(self.onServerEdited)
        self.ui.allowRemoteCheckBox.toggled.connect(self.onAllowRemote)
        self.ui.wholeVolumeRadioButton.toggled.connect(self.onWholeVolume)
        self.ui.groundButton.clicked.connect(self.onGround)
        self.ui.referButton.clicked.connect(self.onRefer)
        self.ui.cancelButton.clicked.connect(self.onCancel)

    def _useParameterNode(self):
        if self._parameterNode is not None:
            return
        self._parameterNode = self.logic.getParameterNode()
        self._guiTag = self._parameterNode.connectGui(self.ui)
        if self._parameterNode.volume is None:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            self._parameterNode.volume = first
        self.addObserver(
            self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged
        )
        self._onParametersChanged()

    def _releaseParameterNode(self):
        if self._parameterNode is None:
            return
        self._parameterNode.disconnectGui(self._guiTag)
        self.removeObserver(
            self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged
        )
        self._parameterNode = None

    def _onParametersChanged(self, caller=None, event=None):
        whole = self._parameterNode.wholeVolume
        self.ui.wholeVolumeRadioButton.checked = whole
        self.ui.currentSliceRadioButton.checked = not whole
        self._updateButtons()

    def _working(self):
        self._updateButtons()
        self._timer.start()

    def _updateButtons(self):
        if self._parameterNode is None:
            return
        core = self.logic.core
        question = question_of(self._parameterNode)
        _enable(self.ui.groundButton, *core.can_ground(question))
        _enable(self.ui.referButton, *core.can_refer(question.volume, self._parameterNode.roi))
        _enable(self.ui.connectButton, not core.busy, _("Wait for the answer, or cancel it."))
        self.ui.cancelButton.enabled = core.busy

    def _logWindow(self, question):
        window = geometry.shownWindow(question.volume) if question.send_window else None
        words = "L {:.0f} W {:.0f}".format(*window) if window else _("the server's choice")
        asked = ", ".join(question.labels)
        self._log(_("Asked: {asked} (window: {words})").format(asked=asked, words=words))

    def _showProgress(self, fraction, words):
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.progressLabel.text = words

    def _say(self, words):
        self.ui.statusLabel.text = words
        self._log(words)

    def _log(self, words):
        self.ui.logTextEdit.appendPlainText(words)


class BiRDTest(ScriptedLoadableModuleTest):
    """Self-test inside Slicer; needs no server."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_findingsBecomeMarkups()
        self.setUp()
        self.test_roiBecomesQuestion()

    def test_findingsBecomeMarkups(self):
        volume = _blankVolume()
        corners = ((-5.0, -5.0, 3.0), (5.0, -5.0, 3.0), (5.0, 5.0, 3.0), (-5.0, 5.0, 3.0))
        box = answers.Box("liver", 3, 0.9, corners)
        axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        finding = answers.Finding(
            "liver", 0.9, (3, 3), (0.0, 0.0, 3.0), (10.0, 10.0, 1.0), axes, (box,)
        )
        grounding = answers.Grounding("self-test", "axial", None, (finding,), ("spleen",))
        findings = Findings(slicer.mrmlScene)
        (roi,) = findings.add(volume, grounding, "liver, spleen (axial)")
        assert roi.GetName() == "liver 0.90"
        rows = findings.rows(findings.table(volume))
        assert [row.status for row in rows] == ["suggested", "absent"]

    def test_roiBecomesQuestion(self):
        volume = _blankVolume()
        roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
        geometry.placeRoi(roi, volume, (0.0, 0.0, 5.0), (4.0, 6.0, 2.0), np.eye(3))
        box_ras = geometry.boxOfRoi(volume, roi)
        np.testing.assert_allclose(box_ras, (-2.0, -3.0, 4.0, 2.0, 3.0, 6.0), atol=1e-6)


def _blankVolume():
    volume = slicer.util.addVolumeFromArray(np.zeros((10, 20, 20), dtype=np.int16))
    volume.SetOrigin(-10.0, -10.0, 0.0)
    return volume


def _enable(button, possible, reason):
    """A disabled button says in its tooltip why it is."""
    button.enabled = possible
    button.toolTip = "" if possible else reason
