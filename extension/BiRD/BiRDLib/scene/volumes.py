"""Volumes: which can be asked, and their voxels on the way to the server.

What leaves the scene is voxels and the matrix to the volume's RAS, nothing else.
"""

import os

import numpy as np
import slicer
import vtk

from ..errors import UnusableInput
from ..i18n import tr as _
from .grids import ijkToRas, matrixOf


def requireUsableVolume(volume):
    """Raises UnusableInput, in words for the user, unless `volume` is one 3D grey image."""
    if volume is None:
        raise UnusableInput(_("No volume is chosen."), _("Load a volume and choose it."))
    name = volume.GetName()
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        raise UnusableInput(_("{} is a label map, not an image.").format(name))
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise UnusableInput(_("{} is empty.").format(name))
    if image.GetNumberOfScalarComponents() != 1:
        raise UnusableInput(
            _("{} has {} values per voxel: colour, vector and 4D volumes cannot be asked.").format(
                name, image.GetNumberOfScalarComponents()
            ),
            _("Extract one component or one frame as a volume of its own."),
        )
    if _isFrameOfSequence(volume):
        raise UnusableInput(
            _("{} is one frame of a 4D sequence.").format(name),
            _("Clone it (right-click in the Data module) and choose the copy."),
        )
    if abs(np.linalg.det(ijkToRas(volume)[:3, :3])) < 1e-12:
        raise UnusableInput(_("{} has no usable orientation.").format(name))


def exportCopy(volume):
    """A volume outside any scene with the same voxels and matrix, and nothing else.

    No name, no DICOM attributes, no parent transform: writing it tells only what the question
    needs. It shares the voxels; it may be written on another thread.
    """
    requireUsableVolume(volume)
    copy = slicer.vtkMRMLScalarVolumeNode()
    image = vtk.vtkImageData()
    image.ShallowCopy(volume.GetImageData())
    copy.SetAndObserveImageData(image)
    copy.SetIJKToRASMatrix(matrixOf(ijkToRas(volume)))
    return copy


def writeVolume(copy, folder, compress=False):
    """Writes what `exportCopy` returned through Slicer's storage node; returns the file's path."""
    path = os.path.join(str(folder), "volume.nrrd")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(path)
    storage.SetUseCompression(compress)
    if not storage.WriteData(copy):
        raise UnusableInput(
            _("The volume could not be written to {}.").format(path), _("Free some disk.")
        )
    return path


def volumeStamp(volume):
    """Changes whenever the voxels or the matrix of `volume` do; not with its transform or name."""
    return volume.GetImageData().GetMTime(), ijkToRas(volume).tobytes()


def shownWindow(volume):
    """(level, width) as displayed, or None where the volume has no usable display."""
    display = volume.GetScalarVolumeDisplayNode()
    if display is None or not display.GetWindow() > 0:
        return None
    return float(display.GetLevel()), float(display.GetWindow())


def _isFrameOfSequence(volume):
    scene = volume.GetScene()
    browsers = scene.GetNodesByClass("vtkMRMLSequenceBrowserNode") if scene else None
    if browsers is None:
        return False
    browsers.UnRegister(None)
    nodes = (browsers.GetItemAsObject(n) for n in range(browsers.GetNumberOfItems()))
    return any(browser.IsProxyNodeID(volume.GetID()) for browser in nodes)
