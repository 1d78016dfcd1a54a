"""How long one call keeps the GUI thread, with a slow server and with a thousand findings.

Measured is the thread's own time: the machine may be busy with other things. That no call waits
for the server shows in the wall time, which is far below the server's.
"""

import gc
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from BiRDLib.background import Background
from BiRDLib.logic import Logic
from BiRDLib.question import WHOLE, Question
from BiRDLib.review import Review
from grounding import a_finding, a_grounding, as_json
from outcomes import Outcome
from scripted_server import HEALTH, stored_volume

LONGEST_S = 0.05
TRIES = 4
LOW, HIGH = (9.5, 9.5), (29.5, 24.5)


class Stopwatch:
    """Calls on the GUI thread, and how long they took."""

    def __init__(self):
        self.own_s, self.wall_s = {}, {}  # name -> longest

    def __call__(self, name, call, *arguments, **options):
        wall, own = time.monotonic(), time.thread_time()
        answer = call(*arguments, **options)
        own, wall = time.thread_time() - own, time.monotonic() - wall
        self.own_s[name] = max(own, self.own_s.get(name, 0.0))
        self.wall_s[name] = max(wall, self.wall_s.get(name, 0.0))
        return answer

    @contextmanager
    def trying(self):
        """What is done here is done again: of each call the quickest try counts."""
        before, self.own_s = self.own_s, {}
        yield
        for name, own in self.own_s.items():
            before[name] = min(own, before.get(name, own))
        self.own_s = before

    def pump(self, name, background, until, limit_s=60.0):
        """The GUI thread's timer until something is true; each turn is a call."""
        end = time.monotonic() + limit_s
        while not until():
            assert time.monotonic() < end, name
            self(name, background.pump)

    @property
    def too_long(self):
        return {name: own for name, own in self.own_s.items() if own > LONGEST_S}


@pytest.fixture
def a_stopwatch():
    return Stopwatch()


@pytest.mark.parametrize(
    "seconds", [pytest.param(2, id="2s"), pytest.param(10, id="10s", marks=pytest.mark.slow)]
)
def test_a_slow_server_never_holds_up_the_panel(
    seconds, a_panel, a_server, a_volume, a_stopwatch, make_view
):
    """Every answer takes its time; meanwhile the user scrolls and moves the threshold."""
    view = make_view().show(a_volume)
    found = a_grounding(a_finding(a_volume, "liver", [5], LOW, HIGH))
    result = {"event": "result", "result": as_json(found)}

    def slowly(answer):
        return lambda handler, body: (time.sleep(seconds), answer(handler, body))

    a_server.script["GET", "/health"] = slowly(lambda handler, body: handler.answer(200, HEALTH))
    a_server.script["PUT", "/volumes"] = slowly(
        lambda handler, body: handler.answer(201, stored_volume(body))
    )
    a_server.script["POST", "/ground"] = slowly(lambda handler, body: handler.stream([result]))
    core = a_panel.logic.core
    a_panel._timer.timeout.disconnect()

    def wait(name):
        turn = 0
        while a_panel.busy:
            turn += 1
            a_stopwatch(name, a_panel.onPump)
            a_stopwatch("scroll", view.jump, (0, 0, -40 + turn % 60))
            a_stopwatch("threshold", core.display.showFrom, 0.1 * (turn % 5))

    a_panel.ui.serverComboBox.setEditText(a_server.address)
    a_stopwatch("connect", a_panel.connecting.onConnect)
    wait("connecting")
    a_panel.parameters.labels = "liver"
    a_panel.parameters.extent = WHOLE
    a_stopwatch("ask", a_panel.asking.onGround)
    wait("answering")
    assert [line.label for line in a_panel.reviewing.review.lines(a_volume)] == ["liver"]
    assert max(a_stopwatch.wall_s.values()) < seconds / 2
    assert a_stopwatch.too_long == {}


@pytest.fixture
def a_thousand(a_core):
    """(volume, a Grounding of 1,000 findings that fill it)."""
    volume = a_core.volume(np.zeros((100, 100, 100), np.int16), np.eye(4), window=(1.0, 2.0))
    findings = [
        a_finding(
            volume,
            f"organ {n % 7}",
            [n // 100 * 10 + 4],
            (n % 10 * 10 + 1.5, n // 10 % 10 * 10 + 1.5),
            (n % 10 * 10 + 8.5, n // 10 % 10 * 10 + 7.5),
            score=0.3 + 0.6 * (n % 100) / 100,
        )
        for n in range(1000)
    ]
    return volume, a_grounding(*findings)


def test_a_thousand_findings_are_stored_and_reviewed_without_a_stall(
    a_scene, a_thousand, a_server, a_stopwatch, make_view
):
    volume, grounding = a_thousand
    gc.collect()
    gc.freeze()  # the tests' own thousands of objects are not Slicer's
    for name, plane in (("Red", "axial"), ("Green", "coronal"), ("Yellow", "sagittal")):
        make_view(name, plane).show(volume)
    background, outcome = Background(), Outcome()
    logic = Logic(a_scene, background)
    logic.connect(a_server.address, "", outcome.on_done, outcome.on_error)
    a_stopwatch.pump("connecting", background, lambda: outcome.over)
    a_server.grounds({"event": "result", "result": as_json(grounding)})
    outcome = Outcome()
    logic.ground(Question(volume, ("organ",), extent=WHOLE), **outcome.callbacks)
    a_stopwatch.pump("storing", background, lambda: outcome.over and not background.waiting)
    assert outcome.threads == {threading.current_thread()}
    assert len(outcome.done[0][1]) == 1000
    review = Review(a_scene, logic, logic.display, lambda words: None, lambda: None)
    logic.disconnect()
    for n in range(TRIES):
        with a_stopwatch.trying():
            a_stopwatch("accept", review.accept, volume, [f"1/{500 + n}"])
            several = [f"1/{20 * n + k}" for k in range(1, 21)]
            a_stopwatch("accept several", review.accept, volume, several)
            a_stopwatch("undo", review.undo)
            a_stopwatch("redo", review.redo)
            a_stopwatch("show more", logic.display.showFrom, 0.2)
            a_stopwatch("show fewer", logic.display.showFrom, 0.9)
            a_stopwatch("list", review.lines, volume)
            a_stopwatch("jump", review.jump, volume, f"1/{200 * n + 100}")
            a_stopwatch.pump("outlines", background, lambda: not background.waiting)
    logic.close()
    gc.unfreeze()
    assert a_stopwatch.too_long == {}
