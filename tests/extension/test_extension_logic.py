"""Scene -> server -> scene, over real HTTP, on one thread and on two."""

import threading
import time

import numpy as np
import pytest

from BiRDLib import scene as geometry
from BiRDLib.background import Background
from BiRDLib.errors import (
    BadAddress,
    BadRequest,
    Cancelled,
    NotFound,
    ServerDown,
    ServerFault,
)
from BiRDLib.logic import Logic
from BiRDLib.question import WHOLE, Question, parse_labels, summary
from grounding import a_finding, a_grounding, as_json, box_json
from outcomes import AtOnce, Outcome
from scripted_server import HEALTH, error, stored_volume

LOW, HIGH = (9.5, 9.5), (29.5, 24.5)


@pytest.fixture
def a_threaded_logic(a_scene, a_server):
    background = Background()
    logic = Logic(a_scene, background)
    outcome = Outcome()
    logic.connect(a_server.address, "", outcome.on_done, outcome.on_error)
    _pump(background, lambda: outcome.over)
    logic.background = background
    yield logic
    logic.close()


def _pump(background, until, limit_s=10.0):
    """The GUI thread's timer. Returns the longest time that one call took, s."""
    longest, end = 0.0, time.monotonic() + limit_s
    while not until():
        assert time.monotonic() < end, "nothing came back"
        started = time.monotonic()
        background.pump()
        longest = max(longest, time.monotonic() - started)
    return longest


def _answers(server, *findings, absent=(), plane="axial"):
    grounding = a_grounding(*findings, plane=plane, absent=absent)
    boxes = [box_json(box) for finding in findings for box in finding.boxes]
    server.grounds(
        {"event": "progress", "done": 1, "total": 2, "boxes": boxes},
        {"event": "result", "result": as_json(grounding)},
    )


def test_a_typed_word_becomes_markups(a_server, a_connected_logic, a_volume, make_view, an_outcome):
    make_view().show(a_volume).jump((0, 0, -30))
    _answers(a_server, a_finding(a_volume, "liver", [5], LOW, HIGH), absent=["spleen"])
    question = Question(a_volume, ("liver", "spleen"), threshold=0.4)
    a_connected_logic.ground(question, **an_outcome.callbacks)
    ((grounding, rois),) = an_outcome.done
    assert [roi.GetName() for roi in rois] == ["liver 0.90"]
    assert grounding.absent == ("spleen",)
    table = a_connected_logic.findings.table(a_volume)
    rows = a_connected_logic.findings.rows(table)
    assert rows[0].prompt == "1: liver, spleen (axial 5)"
    (asked,) = a_server.asked("/ground")
    assert asked["slices"] == [5, 6]
    assert asked["window"] == [60000.0, 120000.0]
    assert (asked["labels"], asked["threshold"]) == (["liver", "spleen"], 0.4)
    fractions = [fraction for fraction, _ in an_outcome.progress]
    assert fractions == sorted(fractions)
    assert an_outcome.progress[-1] == (pytest.approx(0.6), "1 of 2 answered")


def test_the_whole_volume_starts_near_the_current_slice(
    a_server, a_connected_logic, a_volume, make_view, an_outcome
):
    make_view().show(a_volume).jump((0, 0, 0))
    _answers(a_server)
    question = Question(a_volume, ("liver",), extent=WHOLE, send_window=False)
    a_connected_logic.ground(question, **an_outcome.callbacks)
    (asked,) = a_server.asked("/ground")
    assert (asked["slices"], asked["near"], asked["window"]) == (None, 20, None)
    assert an_outcome.done[0][1] == []


def test_a_volume_is_sent_once_until_it_changes(
    a_server, a_connected_logic, make_volume, make_view, an_outcome
):
    volume, other = make_volume(), make_volume("lps", "other")
    make_view().show(volume)
    _answers(a_server)

    def ask(node):
        question = Question(node, ("liver",), extent=WHOLE)
        a_connected_logic.ground(question, **an_outcome.callbacks)
        return a_server.count("PUT", "/volumes")

    assert [ask(volume), ask(volume), ask(other), ask(volume)] == [1, 1, 2, 2]
    volume.SetOrigin(1, 2, 3)
    assert [ask(volume), ask(volume)] == [3, 3]
    assert an_outcome.errors == []


def test_a_server_that_forgot_the_volume_gets_it_again(
    a_server, a_connected_logic, a_volume, an_outcome
):
    question = Question(a_volume, ("liver",), extent=WHOLE)
    _answers(a_server)
    a_connected_logic.ground(question, **an_outcome.callbacks)
    events = a_server.script["POST", "/ground"]

    def forgets_once(handler, body):
        a_server.script["POST", "/ground"] = events
        handler.answer(404, error("unknown_volume"))

    a_server.script["POST", "/ground"] = forgets_once
    a_connected_logic.ground(question, **an_outcome.callbacks)
    assert a_server.count("PUT", "/volumes") == 2
    assert len(an_outcome.done) == 2


def test_a_box_becomes_a_name(a_server, a_connected_logic, make_volume, an_outcome):
    volume = make_volume("oblique")
    told = {"model": "m", "text": "spleen", "score": 0.8, "slice": 6, "plane": "axial"}
    a_server.says("POST", "/refer", 200, told)
    roi = volume.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode")
    corners = a_finding(volume, "x", [6], LOW, HIGH).boxes[0].corners_ras
    slabs = geometry.slabsOfSliceBoxes(volume, "axial", [corners])
    geometry.placeRoi(roi, volume, *(part[0] for part in slabs))
    a_connected_logic.refer(Question(volume), roi, **an_outcome.callbacks)
    assert an_outcome.done[0][0].text == "spleen"
    (asked,) = a_server.asked("/refer")
    np.testing.assert_allclose(asked["box_ras"], geometry.boxOfRoi(volume, roi))


def test_other_geometry_on_the_server_stops_the_question(
    a_server, a_connected_logic, a_volume, an_outcome
):
    def misreads(handler, body):
        stored = stored_volume(body)
        stored["volume"]["ijk_to_ras"][0][3] += 5
        handler.answer(201, stored)

    a_server.script["PUT", "/volumes"] = misreads
    a_connected_logic.ground(Question(a_volume, ("x",), extent=WHOLE), **an_outcome.callbacks)
    assert isinstance(an_outcome.errors[0], ServerFault)
    assert "another geometry" in str(an_outcome.errors[0])
    assert a_server.asked("/ground") == []


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        pytest.param(422, error("unknown_label"), BadRequest, id="unknown-label"),
        pytest.param(404, {"detail": "Not Found"}, NotFound, id="not-bird"),
        pytest.param(500, b"", ServerFault, id="server-fault"),
        pytest.param(200, b'{"event": "progress", "boxes": 3}', ServerFault, id="malformed"),
    ],
)
def test_a_failed_question_changes_nothing_and_the_next_can_be_asked(
    a_server, a_connected_logic, a_volume, an_outcome, status, answer, kind
):
    a_server.says("POST", "/ground", status, answer)
    nodes = a_volume.GetScene().GetNumberOfNodes()
    question = Question(a_volume, ("liver",), extent=WHOLE)
    a_connected_logic.ground(question, **an_outcome.callbacks)
    assert [type(failure) for failure in an_outcome.errors] == [kind]
    assert a_volume.GetScene().GetNumberOfNodes() == nodes
    assert a_connected_logic.can_ground(question) == (True, "")


def test_connection_failures_come_as_errors(a_logic, a_server, an_outcome):
    a_logic.connect("a b", "", an_outcome.on_done, an_outcome.on_error)
    a_server.says("GET", "/health", 200, dict(HEALTH, api=9))
    a_logic.connect(a_server.address, "", an_outcome.on_done, an_outcome.on_error)
    assert [type(failure).__name__ for failure in an_outcome.errors] == [
        BadAddress.__name__,
        "VersionMismatch",
    ]
    assert a_logic.health is None


def test_buttons_say_why_they_are_disabled(a_scene, a_server, a_volume, an_outcome):
    logic = Logic(a_scene, AtOnce())
    asked = Question(a_volume, ("liver",))
    assert logic.can_ground(asked) == (False, "Connect to a server first.")
    logic.connect(a_server.address, "", an_outcome.on_done, an_outcome.on_error)
    assert logic.can_ground(asked) == (True, "")
    assert "one name per line" in logic.can_ground(Question(a_volume))[1]
    assert "at most 64" in logic.can_ground(Question(a_volume, tuple(map(str, range(65)))))[1]
    assert "No volume is chosen" in logic.can_ground(Question(None, ("liver",)))[1]
    assert "ROI" in logic.can_refer(a_volume, None)[1]
    a_scene.RemoveNode(a_volume)
    logic.close()


def test_nothing_leaves_this_computer_without_consent(a_scene, a_server, a_volume, an_outcome):
    from BiRDLib.client import Client

    def remote_client(url, token):
        client = Client(a_server.address, token)
        client.address.host = "hospital.example"
        client.health = lambda: Client(a_server.address).health()
        return client

    logic = Logic(a_scene, AtOnce(), remote_client)
    logic.connect(a_server.address, "", an_outcome.on_done, an_outcome.on_error)
    question = Question(a_volume, ("liver",), extent=WHOLE)
    logic.ground(question, **an_outcome.callbacks)
    assert "hospital.example is another computer" in str(an_outcome.errors[0])
    assert a_server.count("PUT", "/volumes") == 0
    logic.allow_remote = True
    assert logic.can_ground(question) == (True, "")
    logic.close()


def test_results_come_on_the_gui_thread_and_it_stays_free(
    a_server, a_threaded_logic, a_volume, make_view, an_outcome
):
    """A slow server: the boxes of the first batch show while the second is being made."""
    view = make_view().show(a_volume)
    view.jump((0, 0, -30))
    finding = a_finding(a_volume, "liver", [5], LOW, HIGH)
    boxes = [box_json(box) for box in finding.boxes]
    a_server.grounds(
        {"event": "progress", "done": 1, "total": 2, "boxes": boxes},
        lambda: a_server.released.wait(20),
        {"event": "result", "result": as_json(a_grounding(finding))},
    )
    question = Question(a_volume, ("liver",), extent=WHOLE)
    started = time.monotonic()
    a_threaded_logic.ground(question, **an_outcome.callbacks)
    assert time.monotonic() - started < 1
    _pump(
        a_threaded_logic.background, lambda: "1 of 2 answered" in dict(an_outcome.progress).values()
    )
    assert [outline.words for outline in a_threaded_logic.pool.outlines(view.node)] == [
        "liver 0.90"
    ]
    assert a_threaded_logic.busy
    assert "cancel" in a_threaded_logic.can_ground(question)[1]
    a_server.released.set()
    longest = _pump(a_threaded_logic.background, lambda: an_outcome.over)
    assert longest < 1
    assert an_outcome.threads == {threading.current_thread()}
    assert len(an_outcome.done) == 1
    assert len(a_threaded_logic.pool.outlines(view.node)) == 1


def test_cancel_stops_a_silent_server_and_drops_what_had_come(
    a_server, a_threaded_logic, a_volume, make_view, an_outcome
):
    view = make_view().show(a_volume)
    view.jump((0, 0, -30))
    boxes = [box_json(box) for box in a_finding(a_volume, "liver", [5], LOW, HIGH).boxes]
    a_server.grounds(
        {"event": "progress", "done": 1, "total": 2, "boxes": boxes},
        lambda: a_server.released.wait(20),
    )
    question = Question(a_volume, ("liver",), extent=WHOLE)
    a_threaded_logic.ground(question, **an_outcome.callbacks)
    _pump(a_threaded_logic.background, lambda: a_threaded_logic.pool.outlines(view.node))
    a_threaded_logic.cancel()
    _pump(a_threaded_logic.background, lambda: an_outcome.over, limit_s=3)
    assert isinstance(an_outcome.errors[0], Cancelled)
    assert a_threaded_logic.pool.outlines(view.node) == []
    assert a_threaded_logic.findings.table(a_volume) is None
    assert not a_threaded_logic.busy


def test_a_scene_that_closes_meanwhile_hears_nothing(
    a_server, a_threaded_logic, a_core, make_volume, an_outcome
):
    volume = make_volume()
    a_server.grounds(lambda: a_server.released.wait(20))
    question = Question(volume, ("liver",), extent=WHOLE)
    a_threaded_logic.ground(question, **an_outcome.callbacks)
    a_threaded_logic.abandon()
    a_core.scene.Clear(0)
    a_server.released.set()
    for _ in range(20):
        a_threaded_logic.background.pump(0.02)
    assert not an_outcome.over


def test_a_server_that_dies_is_told(a_server, a_threaded_logic, a_volume, an_outcome):
    a_server.script["POST", "/ground"] = lambda handler, body: handler.connection.close()
    question = Question(a_volume, ("liver",), extent=WHOLE)
    a_threaded_logic.ground(question, **an_outcome.callbacks)
    _pump(a_threaded_logic.background, lambda: an_outcome.over)
    assert isinstance(an_outcome.errors[0], ServerDown)


def test_a_failing_callback_does_not_keep_the_others(caplog):
    background, seen = Background(), []
    background.post(lambda: 1 / 0)
    background.post(lambda: seen.append("next"))
    background.pump()
    assert seen == ["next"]
    assert "ZeroDivisionError" in caplog.text


def test_labels_and_summary():
    assert parse_labels(" liver \n\nright  kidney\nliver\n") == ("liver", "right kidney")
    many = Question(None, tuple(f"organ number {n}" for n in range(20)))
    assert len(summary(many)) < 80
    assert summary(Question(None, ("liver",), "coronal"), (7, 8)) == "liver (coronal 7)"
