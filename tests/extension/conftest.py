"""Fixtures: a Slicer scene without Slicer, volumes, slice views, a server by script."""

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import vtk

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parents[2] / "extension" / "BiRD"))
vtk.vtkObject.GlobalWarningDisplayOff()  # a headless machine has no X server, VTK says so each time

from BiRDLib.logic import Logic  # noqa: E402
from outcomes import AtOnce, Outcome  # noqa: E402
from scripted_server import ScriptedServer  # noqa: E402
from slice_view import SlicerCore, SliceView  # noqa: E402
from space_view import SpaceView  # noqa: E402
from voxel_grids import GEOMETRIES  # noqa: E402


@pytest.fixture
def a_core():
    core = SlicerCore()
    yield core
    core.scene.Clear(1)


@pytest.fixture
def a_scene(a_core):
    return a_core.scene


@pytest.fixture
def make_volume(a_core):
    """make_volume(geometry="ras", name="scan"): 60 x 50 x 40 voxels that are all different."""

    def make(geometry="ras", name="scan", shape_ijk=(60, 50, 40)):
        array = np.arange(np.prod(shape_ijk), dtype=np.int32).reshape(shape_ijk[::-1])
        matrix = GEOMETRIES[geometry] if isinstance(geometry, str) else geometry
        return a_core.volume(array, matrix, name, window=(60000.0, 120000.0))

    return make


@pytest.fixture
def a_volume(make_volume):
    return make_volume()


@pytest.fixture
def make_view(a_core):
    """make_view(name, plane): a slice view that renders."""
    views = []

    def make(name="Red", plane="axial", size=(300, 300), samples=0):
        views.append(SliceView(a_core, name, plane, size, samples))
        return views[-1]

    yield make
    for view in views:
        view.close()


@pytest.fixture
def make_space(a_core):
    """make_space(): a 3D view."""
    views = []

    def make():
        views.append(SpaceView(a_core))
        return views[-1]

    yield make
    for view in views:
        view.close()


@pytest.fixture
def a_server():
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def a_server_with_token():
    server = ScriptedServer(token="open sesame")
    yield server
    server.close()


@pytest.fixture
def an_outcome():
    return Outcome()


@pytest.fixture
def a_logic(a_scene):
    logic = Logic(a_scene, AtOnce())
    yield logic
    logic.close()


@pytest.fixture
def a_connected_logic(a_logic, a_server):
    a_logic.connect(a_server.address, "", lambda health: None, pytest.fail)
    return a_logic


@pytest.fixture(scope="session")
def a_qt_application(tmp_path_factory):
    """PySide6's application, with settings of its own."""
    qt = pytest.importorskip("PySide6.QtCore", reason="needs PySide6 and its system libraries")
    from PySide6.QtWidgets import QApplication

    application = QApplication.instance() or QApplication([])
    application.setOrganizationName("BiRD tests")
    qt.QSettings.setDefaultFormat(qt.QSettings.Format.IniFormat)
    folder = str(tmp_path_factory.mktemp("settings"))
    qt.QSettings.setPath(qt.QSettings.Format.IniFormat, qt.QSettings.Scope.UserScope, folder)
    return application


@pytest.fixture
def a_module(monkeypatch, a_qt_application, a_scene):
    """BiRD.py as it ships, on stand-ins for what the slicer-core wheel lacks."""
    from PySide6.QtCore import QSettings

    import panel_stand_ins

    QSettings().clear()
    module = Path(__file__).parents[2] / "extension" / "BiRD"
    panel_stand_ins.install(monkeypatch, a_scene, module)
    return importlib.import_module("BiRD")


@pytest.fixture
def a_panel(a_module, a_volume):
    from PySide6.QtWidgets import QWidget

    parent = QWidget()
    parent.isEntered = True
    panel = a_module.BiRDWidget(parent)
    panel.setup()
    yield panel
    panel.cleanup()
    parent.close()


@pytest.fixture
def a_connected_panel(a_panel, a_server):
    from panel_stand_ins import wait_for_panel

    a_panel.ui.serverComboBox.setEditText(a_server.address)
    a_panel.ui.connectButton.click()
    wait_for_panel(a_panel)
    return a_panel
