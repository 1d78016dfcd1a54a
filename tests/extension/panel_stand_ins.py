"""What the slicer-core wheel lacks for BiRD.py to run unchanged: `qt`, base classes, widgets.

Test helper. `qt` is PySide6 with Slicer's attribute style; the parameter wrapper connects the same
types of widgets as Slicer's own and refuses all others, as that one does.
"""

import ctypes
import os
import sys
import time
import types
import typing
import unittest
from contextlib import contextmanager

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from shibokensupport import feature

if sys.version_info < (3, 12):
    # PySide6 6.12 drops a reference to None on each call that returns nothing, harmless only where
    # None is immortal; without a large stock of them the interpreter dies on its way out.
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40

PSEUDO_MODULES = ("torch.classes", "torch.ops", "pydantic")
QT_NAMES = (
    "QAbstractItemView",
    "QBrush",
    "QColor",
    "QCompleter",
    "QKeySequence",
    "QSettings",
    "QShortcut",
    "QStringListModel",
    "QTableWidgetItem",
    "QTextCursor",
    "QTimer",
    "Qt",
)
ATTRIBUTE_STYLE = 0x02  # PySide6's "true_property": widget.text in place of widget.text()


class qMRMLWidget(QtWidgets.QWidget):  # noqa: N801
    def setMRMLScene(self, scene):  # noqa: N802
        for box in self.findChildren(qMRMLNodeComboBox):
            box.scene = scene


class qMRMLNodeComboBox(QtWidgets.QComboBox):  # noqa: N801
    currentNodeChanged = QtCore.Signal(object)  # noqa: N815
    scene = None
    node = None

    def currentNode(self):  # noqa: N802
        return self.node

    def setCurrentNode(self, node):  # noqa: N802
        if node is not self.node:
            self.node = node
            self.clear()
            self.addItem(node.GetName() if node else "None")
            self.currentNodeChanged.emit(node)


class ctkCollapsibleButton(QtWidgets.QGroupBox):  # noqa: N801
    text = QtCore.Property(str, QtWidgets.QGroupBox.title, QtWidgets.QGroupBox.setTitle)


class ctkSliderWidget(QtWidgets.QDoubleSpinBox):  # noqa: N801
    """A number with a range; Slicer's has a slider beside it."""


CUSTOM_WIDGETS = (qMRMLWidget, qMRMLNodeComboBox, ctkCollapsibleButton, ctkSliderWidget)


def wait_for_panel(panel, limit_s=10.0):
    """Runs Qt's event loop until nothing is in flight."""
    end = time.monotonic() + limit_s
    while panel.busy:
        assert time.monotonic() < end, "the panel did not get there"
        QtWidgets.QApplication.processEvents()


def load_ui(path):
    """The widget tree of a .ui file; raises RuntimeError where Qt cannot build it."""
    loader = QtUiTools.QUiLoader()
    for kind in CUSTOM_WIDGETS:
        loader.registerCustomWidget(kind)
    panel = loader.load(str(path))
    if panel is None:
        raise RuntimeError(loader.errorString())
    return panel


def named_widgets(panel):
    widgets = panel.findChildren(QtWidgets.QWidget)
    return types.SimpleNamespace(**{w.objectName(): w for w in widgets if w.objectName()})


@contextmanager
def _without_pseudo_modules():
    """PySide6 asks every loaded module for its source; torch has some that answer with an error."""
    names = [name for name in sys.modules if name.startswith(PSEUDO_MODULES)]
    hidden = {name: sys.modules.pop(name) for name in names}
    try:
        yield
    finally:
        sys.modules.update(hidden)


def install(monkeypatch, scene, module_folder):
    """Puts the stand-ins where BiRD.py imports them from; undone with the test."""
    names = {
        "qt": _qt(),
        "slicer.i18n": _module(tr=lambda text: text, translate=lambda context, text: text),
        "slicer.ScriptedLoadableModule": _scripted_module(module_folder),
        "slicer.parameterNodeWrapper": _module(
            parameterNodeWrapper=_wrapper, Choice=_Choice, WithinRange=_WithinRange
        ),
    }
    for name, module in names.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("BiRD", "BiRDLib.parameters", *_panel_modules(module_folder)):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    monkeypatch.setattr(slicer.util, "loadUI", load_ui)
    monkeypatch.setattr(slicer.util, "startupEnvironment", lambda: dict(os.environ), raising=False)
    monkeypatch.setattr(slicer.util, "loadVolume", lambda path: None, raising=False)
    monkeypatch.setattr(slicer.util, "setSliceViewerLayers", lambda **layers: None, raising=False)
    monkeypatch.setattr(slicer.util, "childWidgetVariables", named_widgets)
    with _without_pseudo_modules():
        for name in ("BiRD", *_panel_modules(module_folder)):
            feature.set_selection(ATTRIBUTE_STYLE, name)


def _module(**contents):
    module = types.ModuleType("stand-in")
    module.__dict__.update(contents)
    return module


def _panel_modules(module_folder):
    return [f"BiRDPanel.{path.stem}" for path in module_folder.glob("BiRDPanel/[a-z]*.py")]


def _qt():
    """What the panel uses of PythonQt's one flat module."""
    flat = _module(QFileDialog=QFileDialog)
    for source in (QtCore, QtGui, QtWidgets):
        for name in QT_NAMES:
            if hasattr(source, name):
                setattr(flat, name, getattr(source, name))
    return flat


class QFileDialog:
    """The user's choice, made by the test: PythonQt returns the path alone."""

    chosen = ""

    @classmethod
    def getOpenFileName(cls, parent, title, folder):  # noqa: N802
        return cls.chosen

    @classmethod
    def getSaveFileName(cls, parent, title, name, kinds):  # noqa: N802
        return cls.chosen


def _scripted_module(module_folder):
    class ScriptedLoadableModule:
        def __init__(self, parent):
            self.parent = parent

    class ScriptedLoadableModuleWidget:
        def __init__(self, parent=None):
            self.parent = parent
            self.layout = QtWidgets.QVBoxLayout(parent)

        def setup(self):
            """Slicer adds its reload section here."""

        def resourcePath(self, name):  # noqa: N802
            return str(module_folder / "Resources" / name)

    class ScriptedLoadableModuleLogic:
        def getParameterNode(self):  # noqa: N802
            scene = slicer.mrmlScene
            node = scene.GetSingletonNode("BiRD", "vtkMRMLScriptedModuleNode")
            if node is None:
                node = slicer.vtkMRMLScriptedModuleNode()
                node.SetSingletonTag("BiRD")
                node = scene.AddNode(node)
            return node

    return _module(
        ScriptedLoadableModule=ScriptedLoadableModule,
        ScriptedLoadableModuleWidget=ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic=ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest=unittest.TestCase,
    )


class _Choice:
    def __init__(self, choices):
        self.choices = choices


class _WithinRange:
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum


def _wrapper(kind):
    fields = typing.get_type_hints(kind, include_extras=True)
    defaults = {name: getattr(kind, name, None) for name in fields}

    class Wrapped:
        def __init__(self, node):
            object.__setattr__(self, "node", node)
            object.__setattr__(self, "values", dict(defaults))
            object.__setattr__(self, "writers", {})

        def __getattr__(self, name):
            return self.values[name] if name in fields else getattr(self.node, name)

        def __setattr__(self, name, value):
            if name not in fields:
                raise AttributeError(name)
            if self.values[name] != value:
                self.values[name] = value
                if name in self.writers:
                    self.writers[name](value)
                self.node.Modified()

        def connectGui(self, ui):  # noqa: N802
            for widget in vars(ui).values():
                name = widget.property("SlicerParameterName")
                if name is not None:
                    self.writers[name] = _connect(widget, fields[name], name, self)
                    self.writers[name](self.values[name])
            return "tag"

        def disconnectGui(self, tag):  # noqa: N802
            self.writers.clear()

    Wrapped.fields = fields
    return Wrapped


def _connect(widget, hint, name, parameters):
    """Widget -> parameter now; returns the way back. The pairs are those of Slicer's connectors."""
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    rule = hint.__metadata__[0] if hasattr(hint, "__metadata__") else None

    def read(getter):
        return lambda *ignored: name in parameters.writers and setattr(parameters, name, getter())

    pair = (type(widget), kind)
    if pair == (QtWidgets.QTextEdit, str):
        widget.textChanged.connect(read(widget.toPlainText))
        return lambda text: widget.toPlainText() == text or widget.setPlainText(text)
    if pair == (QtWidgets.QComboBox, str) and isinstance(rule, _Choice):
        widget.clear()
        widget.addItems(rule.choices)
        widget.currentIndexChanged.connect(read(widget.currentText))
        return widget.setCurrentText
    if pair == (QtWidgets.QCheckBox, bool):
        widget.stateChanged.connect(read(widget.isChecked))
        return widget.setChecked
    if pair == (ctkSliderWidget, float) and isinstance(rule, _WithinRange):
        widget.setRange(rule.minimum, rule.maximum)
        widget.valueChanged.connect(read(widget.value))
        return widget.setValue
    if pair[0] is qMRMLNodeComboBox and issubclass(kind, vtk.vtkObject):
        widget.currentNodeChanged.connect(read(widget.currentNode))
        return widget.setCurrentNode
    raise RuntimeError(f"Unable to create GUI connector from {hint} to {type(widget)}")
