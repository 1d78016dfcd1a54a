"""MRML geometry: the only file that reads or writes it.

World is what Slicer's views show; a volume's RAS is what its file says, before its parent
transform. Everything that goes to the server or comes from it is in the volume's RAS. Knows nothing
about HTTP, findings or colours; takes nodes and the scene as arguments and changes only the nodes
it is given.
"""

import os
from collections import namedtuple

import numpy as np
import slicer
import vtk

from .errors import UnusableInput

PLANES = ("axial", "coronal", "sagittal")
_STACKED_ALONG = {"axial": 2, "coronal": 1, "sagittal": 0}  # RAS axis
_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2.0

# Where a slice view stands, in world: its middle, its axes (3, 3; the columns are the unit vectors
# towards the right edge, towards the top edge and out of the picture) and its width in mm.
Frame = namedtuple("Frame", "middle axes width_mm")


def requireUsableVolume(volume):
    """Raises UnusableInput, in words for the user, unless `volume` is one 3D grey image."""
    if volume is None:
        raise UnusableInput("No volume is chosen.", "Load a volume and choose it.")
    name = volume.GetName()
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        raise UnusableInput("{} is a label map, not an image.".format(name))
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise UnusableInput("{} is empty.".format(name))
    if image.GetNumberOfScalarComponents() != 1:
        raise UnusableInput(
            "{} has {} values per voxel: colour, vector and 4D volumes cannot be asked.".format(
                name, image.GetNumberOfScalarComponents()
            ),
            "Extract one component or one frame as a volume of its own.",
        )
    if _isFrameOfSequence(volume):
        raise UnusableInput(
            "{} is one frame of a 4D sequence.".format(name),
            "Clone it (right-click in the Data module) and choose the copy.",
        )
    if abs(np.linalg.det(ijkToRas(volume)[:3, :3])) < 1e-12:
        raise UnusableInput("{} has no usable orientation.".format(name))


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
    copy.SetIJKToRASMatrix(_vtkMatrix(ijkToRas(volume)))
    return copy


def writeVolume(copy, folder, compress=False):
    """Writes what `exportCopy` returned through Slicer's storage node; returns the file's path."""
    path = os.path.join(str(folder), "volume.nrrd")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(path)
    storage.SetUseCompression(compress)
    if not storage.WriteData(copy):
        raise UnusableInput(
            "The volume could not be written to {}.".format(path), "Free some disk."
        )
    return path


def volumeStamp(volume):
    """Changes whenever the voxels or the matrix of `volume` do; not with its transform or name."""
    return volume.GetImageData().GetMTime(), ijkToRas(volume).tobytes()


def ijkToRas(volume):
    """4x4 from voxel index to the volume's RAS, mm."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return _array(matrix)


def shapeIjk(volume):
    return tuple(volume.GetImageData().GetDimensions())


def shownWindow(volume):
    """(level, width) as displayed, or None where the volume has no usable display."""
    display = volume.GetScalarVolumeDisplayNode()
    if display is None or not display.GetWindow() > 0:
        return None
    return float(display.GetLevel()), float(display.GetWindow())


def sliceAxis(volume, plane):
    """IJK axis (0, 1, 2) that `plane` slices of the volume's own axes are stacked along."""
    return nearestRasAxes(ijkToRas(volume)).index(_STACKED_ALONG[plane])


def nearestRasAxes(ijk_to_ras):
    """For each IJK axis the RAS axis (0, 1, 2) it runs along most, each used once.

    The rule is NIfTI's, so that server and client agree on oblique scans: the rotation nearest to
    the matrix, then the axes with the clearest direction first.
    """
    directions = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    left, _, right = np.linalg.svd(directions)
    strength = np.abs(left @ right)
    axes = [0, 0, 0]
    for axis in np.argsort(-strength.max(axis=0), kind="stable"):
        axes[axis] = int(np.argmax(strength[:, axis]))
        strength[axes[axis]] = -1.0
    return axes


def sliceUnder(volume, plane, position_world):
    """Index of the `plane` slice that holds a world position; raises UnusableInput outside."""
    axis = sliceAxis(volume, plane)
    position_ijk = _transformed(_worldToIjk(volume), [position_world])[0]
    index = int(np.floor(position_ijk[axis] + 0.5))
    if not 0 <= index < shapeIjk(volume)[axis]:
        raise UnusableInput(
            "The slice view stands outside {}.".format(volume.GetName()),
            "Scroll into the volume, or ask about the whole volume.",
        )
    return index


def sliceNormalWorld(volume, plane):
    """Unit normal of the volume's `plane` slices in world, at the volume's middle."""
    axis = sliceAxis(volume, plane)
    middle = (np.array(shapeIjk(volume)) - 1) / 2.0
    points_ijk = np.vstack([middle, middle + np.eye(3)])
    points_ras = points_ijk @ ijkToRas(volume)[:3, :3].T + ijkToRas(volume)[:3, 3]
    points = _transformed(_toWorld(volume), points_ras)
    edges = np.delete(points[1:] - points[0], axis, axis=0)
    normal = np.cross(edges[0], edges[1])
    return normal / np.linalg.norm(normal)


def currentSlice(scene, volume, plane):
    """Index of the `plane` slice that the user looks at.

    It is the slice in the middle of the slice view that faces the plane best (one that shows the
    volume before one that does not), or the one under the crosshair where no view does.
    """
    normal = sliceNormalWorld(volume, plane)
    views = [view for view in sliceViews(scene) if view.IsMappedInLayout()]
    facing = [
        (volume.GetID() in shownVolumeIds(view), abs(sliceFrame(view).axes[:, 2] @ normal), view)
        for view in views
    ]
    facing = [entry for entry in facing if entry[1] > np.sqrt(0.5)]
    if facing:
        view = max(facing, key=lambda entry: entry[:2])[2]
        return sliceUnder(volume, plane, sliceFrame(view).middle)
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is None:
        raise UnusableInput(
            "No slice view shows the {} plane.".format(plane), "Ask about the whole volume."
        )
    return sliceUnder(volume, plane, crosshair.GetCrosshairRAS())


def sliceViews(scene):
    """All slice nodes of the scene."""
    nodes = scene.GetNodesByClass("vtkMRMLSliceNode")
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]


def sliceFrame(view):
    """Frame of a slice view."""
    width, height = view.GetDimensions()[:2]
    xy_to_ras = _array(view.GetXYToRAS())
    middle = xy_to_ras @ [width / 2.0, height / 2.0, 0.0, 1.0]
    axes = _array(view.GetSliceToRAS())[:3, :3]
    return Frame(middle[:3], axes / np.linalg.norm(axes, axis=0), view.GetFieldOfView()[0])


def layersOf(view):
    """The vtkMRMLSliceCompositeNode of a slice view, or None before it has one."""
    return slicer.vtkMRMLSliceLogic.GetSliceCompositeNode(view)


def shownVolumeIds(view):
    """IDs of the volumes in a slice view's layers."""
    composite = layersOf(view)
    if composite is None:
        return set()
    shown = (
        composite.GetBackgroundVolumeID(),
        composite.GetForegroundVolumeID(),
        composite.GetLabelVolumeID(),
    )
    return {volume_id for volume_id in shown if volume_id}


def boxOfRoi(volume, roi):
    """The ROI as a box along the volume's own axes: two opposite corners, 6 numbers, volume RAS.

    Parent transforms of both are honoured; a turned ROI gives the smallest box that holds it,
    clipped to the volume. Raises UnusableInput for an unplaced ROI or one outside the volume.
    """
    if roi is None or roi.GetNumberOfControlPoints() == 0 or min(roi.GetSize()) <= 0:
        raise UnusableInput("No box is drawn.", "Draw an ROI around the thing to ask about.")
    world_to_ijk = _worldToIjk(volume)
    corners_world = _transformed(roi.GetObjectToWorldMatrix(), _SIGNS * np.array(roi.GetSize()))
    corners_ijk = _transformed(world_to_ijk, corners_world)
    limit = np.array(shapeIjk(volume)) - 0.5
    low, high = np.maximum(corners_ijk.min(0), -0.5), np.minimum(corners_ijk.max(0), limit)
    if (low >= high).any():
        raise UnusableInput(
            "{} lies outside {}.".format(roi.GetName(), volume.GetName()),
            "Move it into the volume.",
        )
    return tuple((np.array([[*low, 1], [*high, 1]]) @ ijkToRas(volume).T)[:, :3].ravel().tolist())


def slabOfSliceBox(volume, plane, corners_ras):
    """(center_ras, size_mm, axes_ras) of a slice box, one slice spacing thick.

    `corners_ras` go around the box in the middle of its slice. The axes (columns) are right-handed.
    """
    corners = np.array(corners_ras, dtype=float)
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    size = np.array([np.linalg.norm(across), np.linalg.norm(down), 0.0])
    size[2] = np.linalg.norm(ijkToRas(volume)[:3, sliceAxis(volume, plane)])
    across, down = across / size[0], down / size[1]
    return corners.mean(axis=0), size, np.column_stack([across, down, np.cross(across, down)])


def cornersWorld(volume, center_ras, size_mm, axes_ras):
    """The eight corners (8, 3) of an oriented box of the volume, where the views show them."""
    corners_ras = np.array(center_ras) + (_SIGNS * np.array(size_mm)) @ np.array(axes_ras).T
    return _transformed(_toWorld(volume), corners_ras)


def placeRoi(roi, volume, center_ras, size_mm, axes_ras):
    """Puts an ROI node onto an oriented box of the volume; it moves with the volume."""
    object_to_ras = np.eye(4)
    object_to_ras[:3, :3], object_to_ras[:3, 3] = axes_ras, center_ras
    roi.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    roi.SetSize(*(float(length) for length in size_mm))
    roi.SetAndObserveObjectToNodeMatrix(_vtkMatrix(object_to_ras))


def boxOfNode(roi):
    """(center_ras, size_mm, axes_ras) of an ROI node, before its parent transform."""
    object_to_ras = _array(roi.GetObjectToNodeMatrix())
    return object_to_ras[:3, 3], np.array(roi.GetSize()), object_to_ras[:3, :3]


def placePoint(point, position_world):
    """Puts a one-point markup where the views show that position."""
    if point.GetNumberOfControlPoints() == 0:
        point.AddControlPointWorld(vtk.vtkVector3d(*position_world))
    else:
        point.SetNthControlPointPositionWorld(0, *map(float, position_world))


def jumpTo(scene, roi):
    """Scrolls all slice views to the middle of an ROI."""
    middle = [0.0, 0.0, 0.0]
    roi.GetCenterWorld(middle)
    offset = slicer.vtkMRMLSliceNode.OffsetJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *middle, offset)


def _isFrameOfSequence(volume):
    scene = volume.GetScene()
    browsers = scene.GetNodesByClass("vtkMRMLSequenceBrowserNode") if scene else None
    if browsers is None:
        return False
    browsers.UnRegister(None)
    nodes = (browsers.GetItemAsObject(n) for n in range(browsers.GetNumberOfItems()))
    return any(browser.IsProxyNodeID(volume.GetID()) for browser in nodes)


def _toWorld(volume):
    """vtkAbstractTransform from the volume's RAS to world; its parents may be warps."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        volume.GetParentTransformNode(), None, transform
    )
    return transform


def _worldToIjk(volume):
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        None, volume.GetParentTransformNode(), transform
    )
    transform.PostMultiply()
    transform.Concatenate(_vtkMatrix(np.linalg.inv(ijkToRas(volume))))
    return transform


def _transformed(transform, points):
    """Points (n, 3) through a vtkAbstractTransform or a vtkMatrix4x4."""
    if isinstance(transform, vtk.vtkMatrix4x4):
        matrix = _array(transform)
        return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]
    return np.array([transform.TransformPoint(*map(float, point)) for point in points])


def _array(matrix):
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def _vtkMatrix(array):
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix
