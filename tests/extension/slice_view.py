"""Slicer without its windows: an MRML scene, slice views that render, pictures of them.

Test helper, no product code. Knows nothing about BiRDLib.
"""

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_DISPLAYABLE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)
_MODULE_LOGICS = {
    "Markups": slicer.vtkSlicerMarkupsLogic,
    "Volumes": slicer.vtkSlicerVolumesLogic,
    "Tables": slicer.vtkSlicerTablesLogic,
    "Sequences": slicer.vtkSlicerSequencesLogic,
    "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic,
}


class SlicerCore:
    """A scene with the logics that the Slicer application would give it."""

    def __init__(self):
        self.scene = slicer.vtkMRMLScene()
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)
        self.application = slicer.vtkSlicerApplicationLogic()
        self.application.SetMRMLScene(self.scene)
        self.application.GetColorLogic().SetMRMLScene(self.scene)
        self.application.GetColorLogic().AddDefaultColorNodes()
        self.application.SetSliceLogics(vtk.vtkCollection())
        self.application.SetViewLogics(vtk.vtkCollection())
        self.logics = {name: self._logic(name, kind) for name, kind in _MODULE_LOGICS.items()}
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)

    def _logic(self, name, kind):
        logic = kind()
        logic.SetMRMLScene(self.scene)
        logic.SetMRMLApplicationLogic(self.application)
        self.application.SetModuleLogic(name, logic)
        return logic

    def volume(self, array_kji, ijk_to_ras, name="scan", window=None):
        """A scalar volume; `window` is (level, width) or None for automatic."""
        slicer.mrmlScene = self.scene  # slicer.util's functions read it from there
        matrix = slicer.util.vtkMatrixFromArray(np.asarray(ijk_to_ras, dtype=float))
        node = slicer.util.addVolumeFromArray(np.ascontiguousarray(array_kji), matrix, name)
        if window is not None:
            display = node.GetDisplayNode()
            display.AutoWindowLevelOff()
            display.SetWindowLevel(window[1], window[0])
        return node


class SliceView:
    """One slice view as Slicer draws it, off screen.

    `plane` is "axial", "coronal" or "sagittal"; the view's node is `node`, its logic `logic`;
    `drawings_wanted` grows when it has to be drawn anew, from the first picture on. Each pixel is
    drawn from so many `samples`; 0 is one.
    """

    def __init__(self, core, name="Red", plane="axial", size=(480, 480), samples=0):
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(core.application)
        core.application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(core.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetMappedInLayout(1)
        self.node.SetOrientation(plane.capitalize())
        self.drawings_wanted = []
        self._core = core
        self._size = size
        self._samples = samples
        self._screen = None  # made by the first picture
        self.logic.ResizeSliceNode(*size)

    def show(self, volume, along_volume=False):
        """Puts a volume into the background, fitted; `along_volume` turns to its own axes."""
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        if along_volume:
            self.node.RotateToVolumePlane(volume)
        self.logic.FitSliceToAll()
        return self

    def jump(self, position_world):
        """Scrolls to a world position without panning."""
        self.node.JumpSliceByOffsetting(*map(float, position_world))
        return self

    def center(self, position_world):
        """Scrolls and pans to a world position."""
        self.node.JumpSliceByCentering(*map(float, position_world))
        return self

    def picture(self):
        """The view now, (height, width, 3) uint8, top row first."""
        if self._screen is None:
            self._screen = _Screen(self._core, self.node, self._size, self._samples)
            self._screen.on_wanted(self.drawings_wanted.append)
        self._screen.render(self.logic.GetImageDataConnection())
        image = self._screen.grab()
        width, height, _ = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
        return pixels[::-1, :, :3].copy()

    def colored_pixels(self, color, tolerance=40):
        """How many pixels have about this colour ((r, g, b) in 0..1)."""
        distance = np.abs(self.picture().astype(int) - np.round(np.array(color) * 255))
        return int((distance.max(axis=2) <= tolerance).sum())

    def save(self, path):
        """Writes the view as a PNG file."""
        self.picture()
        writer = vtk.vtkPNGWriter()
        writer.SetFileName(str(path))
        writer.SetInputData(self._screen.grab())
        writer.Write()

    def close(self):
        """Frees the OpenGL context."""
        if self._screen is not None:
            self._screen.close()
            self._screen = None


class _Screen:
    """The render window of one slice view."""

    def __init__(self, core, node, size, samples):
        self._renderer = vtk.vtkRenderer()
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(samples)
        self._window.SetSize(*size)
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._interactor.Initialize()
        self._background = _background_actor()
        self._managers = _displayable_managers(core, self._renderer)
        self._managers.SetMRMLDisplayableNode(node)

    def on_wanted(self, callback):
        """Calls `callback(event)` when the view has to be drawn anew."""
        update = vtk.vtkCommand.UpdateEvent
        self._managers.AddObserver(update, lambda group, event: callback(event))

    def render(self, background):
        """Draws the slice image (an algorithm output or None) and the markups on it."""
        if background is not None:
            self._background.GetMapper().SetInputConnection(background)
            self._renderer.AddViewProp(self._background)
        self._window.Render()

    def grab(self):
        """The picture as vtkImageData, bottom row first."""
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        return grabber.GetOutput()

    def close(self):
        self._managers.SetMRMLDisplayableNode(None)
        self._window.Finalize()


def _background_actor():
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    return actor


def _displayable_managers(core, renderer):
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(core.application)
    for name in _DISPLAYABLE_MANAGERS:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    return group
