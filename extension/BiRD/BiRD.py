"""The BiRD module of 3D Slicer: its entry in the module list, its panel, its self-test.

Slots only. What happens between scene and server is in BiRDLib, what the tabs do in BiRDPanel; the
panel's look is in Resources/UI/BiRD.ui.
"""

import time

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

from BiRDLib import scene as geometry
from BiRDLib.answers import Health
from BiRDLib.background import Background
from BiRDLib.logic import Logic
from BiRDLib.question import WHOLE, Question
from BiRDLib.rehearsal import rehearsal
from BiRDLib.review import Review
from BiRDPanel.asking import Asking
from BiRDPanel.casework import Casework
from BiRDPanel.connecting import Connecting
from BiRDPanel.reviewing import Reviewing
from BiRDPanel.section import enable
from BiRDPanel.using import Using

# name, title, file and SHA-256 of scans in Slicer's collection of test data.
SAMPLES = (
    (
        "BiRDHead",
        _("Head (MR)"),
        "MR-head.nrrd",
        "cc211f0dfd9a05ca3841ce1141b292898b2dd2d3f08286affadf823a7e58df93",
    ),
    (
        "BiRDLiver",
        _("Abdomen with liver (CT)"),
        "CTLiver.nrrd",
        "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e",
    ),
)
PUMP_MS = 30
IDLE_PUMP_MS = 500  # while nothing is asked, but a server of our own may say something


class BiRD(ScriptedLoadableModule):
    """What Slicer shows in its list of modules."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "BiRD"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Markups", "Segmentations", "SubjectHierarchy", "Tables"]
        self.parent.contributors = ["The BiRD for 3D Slicer maintainers"]
        self.parent.helpText = _(
            "Ask where a structure is and get editable boxes; draw a box and get its name. The"
            " answers come from a BiRD server: start one with <code>bird serve</code>."
        )
        self.parent.acknowledgementText = _(
            "BiRD is a research tool. Its answers are suggestions to be reviewed, not a diagnosis."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


class BiRDLogic(ScriptedLoadableModuleLogic):
    """The module's logic for this application's scene; `core` does the work."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.background = Background()
        self.core = Logic(slicer.mrmlScene, self.background)

    def makeReview(self, onNews, onChange):
        return Review(slicer.mrmlScene, self.core, self.core.display, onNews, onChange)

    def getParameterNode(self):
        # Not at the top: when Slicer reads this file, the Markups module may not be loaded yet.
        from BiRDLib.parameters import BiRDParameterNode

        return BiRDParameterNode(super().getParameterNode())


class BiRDWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: the server, the volume, progress and log; each tab is a section of BiRDPanel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.parameters = None  # the parameter node's wrapper, while the module is entered
        self.sections = ()
        self._guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/BiRD.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.scene = slicer.mrmlScene
        self.logic = BiRDLogic()
        self._timer = qt.QTimer()
        self._timer.interval = PUMP_MS
        self._timer.timeout.connect(self.onPump)
        self.logic.background.wake = self._wake
        self._makeSections()
        self._connectSignals()
        self.addObserver(self.scene, self.scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(self.scene, self.scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(self.scene, self.scene.EndImportEvent, self.onSceneEndImport)
        self._useParameterNode()

    def cleanup(self):
        self._timer.stop()
        self.connecting.close()
        self.reviewing.review.forget()
        self.logic.core.close()
        self._releaseParameterNode()
        self.removeObservers()

    def enter(self):
        self._useParameterNode()

    def exit(self):
        self.reviewing.review.finish()
        self._releaseParameterNode()

    def onSceneStartClose(self, caller, event):
        self.logic.core.abandon()
        self.reviewing.review.forget()
        self.asking.onNewConversation()
        self._releaseParameterNode()

    def onSceneEndClose(self, caller, event):
        self.progress(0.0, "")
        if self.parent.isEntered:
            self._useParameterNode()

    def onSceneEndImport(self, caller, event):
        if self.parent.isEntered:
            self._useParameterNode()
            self.reviewing.showFrom(self.parameters.showFrom)
            self.update()

    @property
    def busy(self):
        """Whether something is on its way."""
        outbox = self.reviewing.review.outbox
        return self.logic.core.busy or outbox.busy or self.connecting.starting

    def onPump(self):
        was_busy = self.busy
        self.logic.background.pump()
        if self.busy or self.logic.background.waiting:
            return
        self._rest()
        if was_busy:
            self.update()

    def _rest(self):
        """No answer is waited for; a server of our own may still have something to say."""
        self._timer.interval = IDLE_PUMP_MS
        if not self.connecting.local.running:
            self._timer.stop()

    def connected(self, health):
        """Another server is in use."""
        self.asking.connected(health)
        self.reviewing.review.outbox.send_all()
        self.working()

    def onCancel(self, *ignored):
        self.logic.core.cancel()
        self.progress(0.0, _("Cancelling ..."))

    def working(self):
        """Something was asked."""
        self._wake()
        self.update()

    def _wake(self):
        self._timer.interval = PUMP_MS
        self._timer.start()

    def update(self):
        """Every button and list follows what is there now; what is on its way is waited for."""
        if self.busy:
            self._wake()
        if self.parameters is None:
            return
        enable(self.ui.cancelButton, self.logic.core.busy, _("Nothing is being asked."),
               _("Stop the question; what had come is dropped"))  # fmt: skip
        for section in self.sections:
            section.update()

    def progress(self, fraction, words):
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.progressLabel.text = words

    def log(self, words):
        self.ui.logTextEdit.appendPlainText(words)

    def _makeSections(self):
        self.connecting = Connecting(self)
        self.asking = Asking(self)
        self.reviewing = Reviewing(self)
        self.using = Using(self, self.reviewing)
        self.casework = Casework(self, self.reviewing)
        self.sections = (
            self.connecting,
            self.asking,
            self.reviewing,
            self.using,
            self.casework,
        )

    def _connectSignals(self):
        self.ui.cancelButton.clicked.connect(self.onCancel)

    def _useParameterNode(self):
        if self.parameters is not None:
            return
        self.parameters = self.logic.getParameterNode()
        self._guiTag = self.parameters.connectGui(self.ui)
        if self.parameters.volume is None:
            self.parameters.volume = self.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self.addObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)
        self._onParametersChanged()

    def _releaseParameterNode(self):
        if self.parameters is None:
            return
        self.parameters.disconnectGui(self._guiTag)
        self.removeObserver(
            self.parameters, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged
        )
        self.parameters = None

    def _onParametersChanged(self, caller=None, event=None):
        if self.parameters.showFrom != self.logic.core.display.threshold:
            self.reviewing.showFrom(self.parameters.showFrom)
        self.update()


class BiRDTest(ScriptedLoadableModuleTest):
    """Self-test inside Slicer; its server is a rehearsal in this process (rehearsal.py)."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_wordsBecomeReviewedFindings()
        self.setUp()
        self.test_roiBecomesQuestion()

    def test_wordsBecomeReviewedFindings(self):
        volume = _blockVolume()
        logic, answers = BiRDLogic(), []
        with rehearsal() as address:
            logic.core.connect(address, "", answers.append, answers.append)
            assert isinstance(_awaited(logic, answers), Health)
            question = Question(volume, ("block", "nothing"), extent=WHOLE)
            logic.core.ground(question, lambda *told: answers.append(told), answers.append)
            grounding, rois = _awaited(logic, answers)
        assert grounding.absent == ("nothing",)
        assert [roi.GetName() for roi in rois] == ["block 0.90"]
        bounds = np.zeros(6)
        rois[0].GetRASBounds(bounds)
        np.testing.assert_allclose(bounds, (-5.5, 3.5, -3.5, 5.5, 1.5, 5.5), atol=1e-3)
        review = logic.makeReview(lambda words: None, lambda: None)
        logic.core.disconnect()
        review.accept(volume, ["1/1"])
        assert [line.status for line in review.lines(volume)] == ["accepted", "absent"]
        review.undo()
        assert review.lines(volume)[0].status == "proposed"
        logic.core.close()

    def test_roiBecomesQuestion(self):
        volume = _blockVolume()
        roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
        geometry.placeRoi(roi, volume, (0.0, 0.0, 5.0), (4.0, 6.0, 2.0), np.eye(3))
        box_ras = geometry.boxOfRoi(volume, roi)
        np.testing.assert_allclose(box_ras, (-2.0, -3.0, 4.0, 2.0, 3.0, 6.0), atol=1e-6)


def _blockVolume():
    """20 x 20 x 10 voxels of 1 mm with a bright block in it."""
    array = np.zeros((10, 20, 20), dtype=np.int16)
    array[2:6, 7:16, 5:14] = 100
    volume = slicer.util.addVolumeFromArray(array)
    volume.SetOrigin(-10.0, -10.0, 0.0)
    return volume


def _awaited(logic, answers, limit_s=20.0):
    """The next answer, while the GUI thread does what it does."""
    end = time.monotonic() + limit_s
    while not answers and time.monotonic() < end:
        logic.background.pump()
    return answers.pop()


def registerSampleData():
    """Scans to try BiRD on, from Slicer's own collection."""
    import SampleData

    for name, title, fileName, digest in SAMPLES:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="BiRD",
            sampleName=name,
            sampleDescription=title,
            uris=slicer.util.TESTING_DATA_URL + "SHA256/" + digest,
            fileNames=fileName,
            checksums="SHA256:" + digest,
            nodeNames=title,
        )
