"""Makes the pictures of docs/slicer.md anew, all from real rendering.

    python scripts/screenshots.py

Starts the server with bird-mini, asks for structures of the MNI152 T1 brain that nilearn carries,
through the module's own panel (PySide6 stands in for Slicer's PythonQt, slicer-core for the
application), and photographs slice views, a 3D view and the panel's tabs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).parents[1]
MODULE = ROOT / "extension" / "BiRD"
sys.path[:0] = [str(ROOT / "tests" / "extension"), str(MODULE), str(ROOT / "scripts")]

# PySide6 asks each module that is imported after it for its source, which pydantic's cannot take.
from demo import mni152_brain, running_server  # noqa: E402

# isort: split
import nibabel  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from PIL import Image  # noqa: E402
from PySide6.QtCore import QSettings  # noqa: E402
from PySide6.QtWidgets import QApplication, QWidget  # noqa: E402

import panel_stand_ins  # noqa: E402
from slice_view import SlicerCore, SliceView  # noqa: E402

LABELS = ("left thalamus", "right thalamus", "left lateral ventricle", "right lateral ventricle",
          "left hippocampus", "right hippocampus", "brain stem", "optic disc")  # fmt: skip
THALAMUS_RAS = (-11.0, -19.0, 8.0)
SURE = 0.5  # score from which the pictures of views show boxes
PANEL_SIZE = (420, 860)
PANES = (("Red", "axial"), ("Green", "coronal"), ("Yellow", "sagittal"))
ANSWER_SECONDS = 900


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="a folder")
    return parser.parse_args()


def main() -> None:
    out = arguments().out
    out.mkdir(parents=True, exist_ok=True)
    vtk.vtkObject.GlobalWarningDisplayOff()
    core = SlicerCore()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        brain = load_brain(core, Path(folder))
        views = [SliceView(core, name, plane, (420, 420)).show(brain) for name, plane in PANES]
        panel = open_panel(core, patch, Path(folder))
        with running_server(Path(folder)) as api:
            ask(panel, api.removesuffix("/bird/v1"))
            decide(panel)
            photograph_panel(panel, out)
        panel.logic.core.display.showFrom(SURE)
        for view in views:
            view.jump(THALAMUS_RAS)
        write(out / "slices.png", np.hstack([view.picture() for view in views]))
        write(out / "space.png", picture_in_space(core, brain))
        panel.cleanup()


def load_brain(core: SlicerCore, folder: Path):
    image = nibabel.load(mni152_brain(folder / "mni152_t1.nii.gz"))
    kji = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)
    return core.volume(kji, image.affine, "MNI152 T1", window=(0.5, 1.0))


def open_panel(core: SlicerCore, patch: pytest.MonkeyPatch, folder: Path):
    """BiRD.py as it ships, with settings of its own."""
    QApplication.instance() or QApplication([])
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder))
    QApplication.setOrganizationName("BiRD pictures")
    panel_stand_ins.install(patch, core.scene, MODULE)
    parent = QWidget()
    parent.isEntered = True
    panel = importlib.import_module("BiRD").BiRDWidget(parent)
    panel.setup()
    parent.resize(*PANEL_SIZE)
    parent.show()
    return panel


def ask(panel, address: str) -> None:
    panel.ui.serverComboBox.setEditText(address.removeprefix("http://"))
    panel.connecting.onConnect()
    wait(panel)
    panel.parameters.labels = "\n".join(LABELS)
    panel.parameters.extent = "whole volume"
    panel.asking.onGround()
    wait(panel)


def decide(panel) -> None:
    """A review half way: two accepted, one rejected; one remark."""
    review, volume = panel.reviewing.review, panel.parameters.volume
    panel.ui.reviewerLineEdit.setText("Dr A")
    panel.reviewing.onReviewer()
    lines = [line for line in review.lines(volume) if line.key]
    surest = [line.key for line in sorted(lines, key=lambda line: -line.score)]
    review.accept(volume, surest[:2])
    review.reject(volume, surest[-1:])
    review.note(volume, "Template brain: no patient.")
    wait(panel)
    panel.casework.onRefresh()
    wait(panel)
    panel.reviewing.select(surest[0])
    wait(panel)


def wait(panel) -> None:
    end = time.monotonic() + ANSWER_SECONDS
    while panel.busy or panel.logic.background.waiting:
        if time.monotonic() > end:
            raise SystemExit("the panel did not get there; see its log")
        QApplication.processEvents()


def photograph_panel(panel, out: Path) -> None:
    tabs = panel.ui.tabs
    for index in range(tabs.count()):
        tabs.setCurrentIndex(index)
        panel.parent.resize(*PANEL_SIZE)
        QApplication.processEvents()
        path = out / f"panel-{tabs.tabText(index).lower()}.png"
        panel.parent.grab().save(str(path))
        with Image.open(path) as image:
            write(path, np.asarray(image.convert("RGB")))


def picture_in_space(core: SlicerCore, brain, size=(640, 520)) -> np.ndarray:
    """The findings' 3D boxes around what they name, in a translucent brain."""
    add_surface(core, brain)
    node = core.scene.AddNewNodeByClass("vtkMRMLViewNode", "View1")
    node.SetMappedInLayout(1)
    node.SetBackgroundColor(1, 1, 1)
    node.SetBackgroundColor2(1, 1, 1)
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(core.application)
    logic.SetMRMLScene(core.scene)
    core.application.GetViewLogics().AddItem(logic)
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.Initialize()
    managers = managers_in_space(core, renderer)
    managers.SetMRMLDisplayableNode(node)
    renderer.SetBackground(1, 1, 1)
    camera = renderer.GetActiveCamera()
    camera.SetPosition(-260, 330, 170)
    camera.SetFocalPoint(0, -18, 0)
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCameraClippingRange()
    window.Render()
    picture = grab(window)
    managers.SetMRMLDisplayableNode(None)
    return picture


def managers_in_space(core: SlicerCore, renderer):
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(core.application)
    for kind in ("Model", "Markups"):
        name = f"vtkMRML{kind}DisplayableManager"
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    return group


def add_surface(core: SlicerCore, brain) -> None:
    surface = vtk.vtkFlyingEdges3D()
    surface.SetInputData(brain.GetImageData())
    surface.SetValue(0, 0.25)
    matrix, transform, moved = vtk.vtkMatrix4x4(), vtk.vtkTransform(), vtk.vtkTransformFilter()
    brain.GetIJKToRASMatrix(matrix)
    transform.SetMatrix(matrix)
    moved.SetTransform(transform)
    moved.SetInputConnection(surface.GetOutputPort())
    moved.Update()
    model = core.scene.AddNewNodeByClass("vtkMRMLModelNode", "brain")
    model.SetAndObservePolyData(moved.GetPolyDataOutput())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetOpacity(0.15)
    model.GetDisplayNode().SetColor(0.75, 0.7, 0.65)


def grab(window) -> np.ndarray:
    from vtk.util.numpy_support import vtk_to_numpy

    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    width, height, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
    return pixels[::-1, :, :3].copy()


def write(path: Path, picture: np.ndarray) -> None:
    """A small PNG: 128 colours are enough for grey slices and widgets."""
    Image.fromarray(picture).quantize(128).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
