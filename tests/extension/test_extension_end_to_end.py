"""The whole path, nothing faked: typed words -> a real server process -> outlines in slice views.

`BIRD_PICTURES=docs pytest -k end_to_end` also writes the README's pictures.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from BiRDLib import scene as geometry
from BiRDLib.background import Background
from BiRDLib.caseroom import CaseRoom
from BiRDLib.colors import label_color
from BiRDLib.errors import Refused
from BiRDLib.localserver import LocalServer
from BiRDLib.logic import Logic
from BiRDLib.question import WHOLE, Question
from BiRDLib.review import Review

LABELS = ("left thalamus", "right thalamus", "left hippocampus", "brain stem", "left lung")
IN_MNI_RAS = {"left thalamus": (-11, -19, 8), "right thalamus": (11, -19, 8)}
START_SECONDS = 180
ANSWER_SECONDS = 300

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def a_server_process(tmp_path_factory):
    """The address of `python -m bird_server` with the shipped model, in a process of its own."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    studies = tmp_path_factory.mktemp("studies")
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "bird_server", "--studies", str(studies), "--port", "0"],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, BIRD_TOKEN=""),
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(30)


def _address(process, log):
    """What the server says when it is ready: "... at http://127.0.0.1:PORT, studies in ..."."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("BiRD serves"):
                return line.split(" at ")[1].split(",")[0]
        time.sleep(0.2)
    raise RuntimeError(log.read_text())


@pytest.fixture
def a_brain(a_core, mni152_file):
    """The MNI152 brain as a volume node, with its own matrix."""
    image = nibabel.load(mni152_file)
    kji = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)
    return a_core.volume(kji, image.affine, "MNI152 T1", window=(0.5, 1.0))


def wait_for(background, outcome):
    """Runs the GUI thread's loop until there is an answer."""
    end = time.monotonic() + ANSWER_SECONDS
    while not outcome and time.monotonic() < end:
        background.pump()
    assert outcome, "no answer in time"
    return outcome


def connected(a_scene, address):
    background, outcome = Background(), []
    logic = Logic(a_scene, background)
    logic.connect(address, "", outcome.append, outcome.append)
    (health,) = wait_for(background, outcome)
    assert health.model == "bird-mini", health
    return logic, background


def test_typed_words_become_outlines_on_the_right_slices_and_not_beyond(
    a_server_process, a_scene, a_brain, make_view, tmp_path
):
    logic, background = connected(a_scene, a_server_process)
    view = make_view("Red", "axial", (560, 620)).show(a_brain)
    view.jump((0, -19, 8))
    answers, errors, heard = [], [], []
    question = Question(a_brain, LABELS, plane="axial", extent=WHOLE)
    logic.ground(
        question,
        lambda grounding, rois: answers.append((grounding, rois)),
        errors.append,
        lambda fraction, words: heard.append(fraction),
    )
    wait_for(background, _Either(answers, errors))
    assert not errors, errors
    ((grounding, rois),) = answers
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert "left lung" in grounding.absent
    found = {finding.label: finding for finding in reversed(grounding.findings)}
    for label, point in IN_MNI_RAS.items():
        roi = rois[grounding.findings.index(found[label])]
        center, size, *_ = geometry.boxOfNode(roi)
        assert (np.abs(np.array(center) - point) <= np.array(size) / 2).all(), label
    _assert_outlines(view, grounding, "right thalamus")
    pictures = Path(os.environ.get("BIRD_PICTURES", tmp_path))
    view.jump((0, -19, 8)).save(pictures / "axial.png")
    assert (pictures / "axial.png").stat().st_size > 10_000
    logic.close()


def _assert_outlines(view, grounding, label):
    """The label's colour shows on the slices with a box of it, and on none beyond."""
    color = label_color(label)
    heights = {
        box.slice: box.corners_ras[0][2]
        for finding in grounding.findings
        for box in finding.boxes
        if finding.label == label
    }
    first, last = min(heights), max(heights)
    for index in sorted(heights)[:: max(1, len(heights) // 6)]:
        assert view.jump((0, 0, heights[index])).colored_pixels(color) > 40, index
    for z in (heights[first] - 1, heights[first] - 9, heights[last] + 1, heights[last] + 9):
        assert view.jump((0, 0, z)).colored_pixels(color) == 0, z


def test_a_drawn_roi_gets_a_name(a_server_process, a_scene, a_brain):
    logic, background = connected(a_scene, a_server_process)
    roi = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "what is this")
    geometry.placeRoi(roi, a_brain, (12, -18, 8), (18, 24, 16), np.eye(3))
    outcome = []
    logic.refer(Question(a_brain), roi, outcome.append, outcome.append)
    (referring,) = wait_for(background, outcome)
    assert referring.text
    assert referring.plane == "axial"
    assert referring.slice == 80
    logic.close()


def test_a_decision_reaches_the_store_and_its_report(
    a_server_process, a_scene, a_brain, make_view, tmp_path
):
    logic, background = connected(a_scene, a_server_process)
    make_view().show(a_brain).jump((0, -19, 8))
    news, outcome, written = [], [], []
    review = Review(a_scene, logic, logic.display, news.append, lambda: None)
    review.decisions.reviewer = "Dr A"
    question = Question(a_brain, ("right thalamus", "left lung"))
    logic.ground(question, lambda *answer: outcome.append(answer), outcome.append)
    wait_for(background, outcome)
    review.accept(a_brain, ["1/1"])
    while review.outbox.busy:
        background.pump()
    assert news == []
    assert [line.told for line in review.lines(a_brain)] == ["told", ""]
    room = CaseRoom(a_scene, logic, logic.display, lambda path: None)
    report = tmp_path / "report.html"
    room.export(a_brain, "html", report, written.append, written.append)
    assert wait_for(background, written) == [report]
    told = report.read_text()
    assert "right thalamus" in told
    assert "Dr A" in told
    logic.close()


def test_a_server_is_started_here_answers_and_ends(a_scene, tmp_path):
    """The button "Start one here": the Python that has the server is chosen as its program."""
    background, said, ready, ended, health = Background(), [], [], [], []
    server = LocalServer(background, said.append, lambda *where: ready.append(where), ended.append)
    server.start(sys.executable, tmp_path / "studies")
    wait_for(background, _Either(ready, ended))
    assert not ended, said
    ((url, token),) = ready
    logic = Logic(a_scene, background)
    logic.connect(url, "wrong", health.append, health.append)
    assert isinstance(wait_for(background, health).pop(), Refused)
    logic.connect(url, token, health.append, health.append)
    assert wait_for(background, health)[0].model == "bird-mini"
    logic.close()
    server.stop()
    wait_for(background, ended)
    assert not server.running


class _Either:
    """True as soon as one of two lists is filled."""

    def __init__(self, *lists):
        self._lists = lists

    def __bool__(self):
        return any(self._lists)
