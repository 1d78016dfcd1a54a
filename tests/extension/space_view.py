"""A 3D view as Slicer draws it, off screen. Test helper, no product code."""

import slicer
import vtk

_DISPLAYABLE_MANAGERS = ("vtkMRMLModelDisplayableManager", "vtkMRMLMarkupsDisplayableManager")


class SpaceView:
    """One 3D view; its node is `node`, `drawings_wanted` grows when it has to be drawn anew."""

    def __init__(self, core, name="1"):
        self.node = core.scene.AddNewNodeByClass("vtkMRMLViewNode", "View" + name)
        self.node.SetLayoutName(name)
        self.drawings_wanted = []
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        renderer = vtk.vtkRenderer()
        self._window.AddRenderer(renderer)
        interactor = vtk.vtkRenderWindowInteractor()
        interactor.SetRenderWindow(self._window)
        interactor.Initialize()
        self._managers = _displayable_managers(core, renderer)
        self._managers.SetMRMLDisplayableNode(self.node)
        self._managers.AddObserver(
            vtk.vtkCommand.UpdateEvent, lambda group, event: self.drawings_wanted.append(event)
        )

    def close(self):
        """Frees the OpenGL context."""
        self._managers.SetMRMLDisplayableNode(None)
        self._window.Finalize()


def _displayable_managers(core, renderer):
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(core.application)
    for name in _DISPLAYABLE_MANAGERS:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    return group
