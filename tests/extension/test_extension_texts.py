"""What the user reads: translated, explained, and why a button cannot be pressed."""

import ast
import sys
import types
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6 and its system libraries")

from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QTextBrowser,
    QTextEdit,
)

from BiRDLib import i18n

MODULE = Path(__file__).parents[2] / "extension" / "BiRD"
SOURCES = sorted(MODULE.rglob("*.py"))
TRANSLATING = {"_", "translate"}
# Not for the user to read: what a model is asked, what is kept in scenes and files, what a
# programmer reads in the log of the application.
DATA = {
    "BiRD.py": {"The BiRD for 3D Slicer maintainers", "block 0.90"},
    "background.py": {"BiRD worker", "BiRD: showing a result failed"},
    "boxes.py": {"{0.label} {0.score:.2f}"},
    "client.py": {"BiRD cancel"},
    "conversation.py": {"Question: {} Answer: {} ", "{}{}Question: {}", "{}Question: {}"},
    "display.py": {"by BiRD"},
    "drawing.py": {"BiRD boxes in {}"},
    "job.py": {"BiRD: unexpected error"},
    "connecting.py": {"~/BiRD studies"},
    "localserver.py": {
        r"^BiRD serves .* at (https?://\S+?), studies in ",
        "pip install 'bird-slicer[server]' && pip install --no-deps monailabel==0.8.5",
    },
    "parameters.py": {"current slice"},
    "question.py": {"current slice", "visible range", "whole volume"},
    "rehearsal.py": {"sizes: (.*)", "space directions: (.*)", "space origin: (.*)"},
    "roinode.py": {"{} {:.2f}", "{:.3f} by {}"},
    "segments.py": {"threshold in the box", "grow from seeds in the box", "by hand"},
    "worklist.py": {"expected organ missing", "to review"},
}
VOCABULARIES = {"colors.py", "labels.py"}  # names of organs, as models know them
NAMES = {w.get("name") for w in ET.parse(MODULE / "Resources/UI/BiRD.ui").iter("widget")}
INPUTS = (
    QAbstractButton, QAbstractItemView, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit,
    QTextBrowser, QTextEdit,
)  # fmt: skip


def bare_texts(tree):
    """Texts of two words and more that do not go through `_()`, docstrings aside."""
    spared = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            spared.add(body[0].value)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in TRANSLATING:
            spared.update(ast.walk(node))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "namedtuple":
            spared.update(ast.walk(node))
    texts = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in spared)
    return {n.value for n in texts if isinstance(n.value, str) and _is_prose(n.value)}


def _is_prose(text):
    words = text.split()
    return len(words) > 1 and any(c.isalpha() for c in text) and "</" not in text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(MODULE)))
def test_every_text_is_translated(path):
    if path.name not in VOCABULARIES:
        assert bare_texts(ast.parse(path.read_text())) == DATA.get(path.name, set())


def test_a_bare_text_is_found():
    source = "def f():\n    'Says hello.'\n    say('good day')\n    say(_('good night'))"
    assert bare_texts(ast.parse(source)) == {"good day"}


def test_inside_slicer_texts_are_looked_up_under_their_file(monkeypatch):
    asked = []
    slicer_i18n = types.ModuleType("slicer.i18n")
    slicer_i18n.translate = lambda *what: asked.append(what) or "Bonjour"
    monkeypatch.setitem(sys.modules, "slicer.i18n", slicer_i18n)
    assert i18n.tr("Good day") == "Bonjour"
    assert asked == [("test_extension_texts", "Good day")]
    exec("from BiRDLib.i18n import tr; tr('x')", {"__name__": "BiRDLib.scene.rois"})
    assert asked[1] == ("scene.rois", "x")


def _inputs(panel):
    return [
        widget
        for widget in vars(panel.ui).values()
        if isinstance(widget, INPUTS) and widget.objectName() in NAMES
    ]


def test_everything_that_can_be_used_says_what_it_is_for(a_connected_panel):
    silent = [w.objectName() for w in _inputs(a_connected_panel) if not w.toolTip()]
    assert silent == []
    assert len(_inputs(a_connected_panel)) > 40


def test_what_is_disabled_says_why(a_panel):
    """The words differ from those for use: they are a reason."""
    reasons = {w.objectName(): w.toolTip() for w in _inputs(a_panel) if not w.isEnabled()}
    assert len(reasons) > 15
    known = (
        "Connect to a server first.", "Select a finding", "Nothing ", "Accept findings", "Draw or",
    )  # fmt: skip
    assert {name: words for name, words in reasons.items() if not words.startswith(known)} == {}
