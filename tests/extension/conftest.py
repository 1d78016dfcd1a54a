"""Fixtures: a Slicer scene without Slicer, volumes, slice views, a server by script."""

import sys
from pathlib import Path

import numpy as np
import pytest
import vtk

sys.path.insert(0, str(Path(__file__).parents[2] / "extension" / "BiRD"))
vtk.vtkObject.GlobalWarningDisplayOff()  # a headless machine has no X server, VTK says so each time

from scripted_server import ScriptedServer  # noqa: E402
from slice_view import SlicerCore, SliceView  # noqa: E402
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

    def make(name="Red", plane="axial", size=(300, 300)):
        views.append(SliceView(a_core, name, plane, size))
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
