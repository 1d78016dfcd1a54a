"""Fixtures: a Slicer scene without Slicer, volumes, slice views, a server by script."""

import sys
from pathlib import Path

import numpy as np
import pytest
import vtk

MODULE = Path(__file__).parents[2] / "extension" / "BiRD"
sys.path.insert(0, str(MODULE))
vtk.vtkObject.GlobalWarningDisplayOff()  # a headless machine has no X server, VTK says so each time

from scripted_server import ScriptedServer  # noqa: E402
from slice_view import SlicerCore, SliceView  # noqa: E402


def rotation(axis, degrees):
    """4x4 about the x, y or z axis (0, 1, 2)."""
    a, b = [n for n in range(3) if n != axis]
    matrix, angle = np.eye(4), np.deg2rad(degrees)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


def affine(spacing, origin=(0, 0, 0), turn=None):
    matrix = np.diag([*map(float, spacing), 1.0])
    matrix = matrix if turn is None else turn @ matrix
    matrix[:3, 3] = origin
    return matrix


GEOMETRIES = {
    "ras": affine((1, 1, 2), (-30, -25, -40)),
    "lps": affine((-0.8, -0.8, 3), (20, 20, -60)),
    "left-handed": affine((-1, 1, 2), (30, -25, -40)),
    "coronal-stack": affine((1, 1, 1), (-30, 40, -20)) @ np.eye(4)[[0, 2, 1, 3]],
    "oblique": affine((0.8, -0.8, 3), (10, 30, -50), rotation(2, 25) @ rotation(0, 15)),
}


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
