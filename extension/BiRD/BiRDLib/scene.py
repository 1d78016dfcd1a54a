"""MRML geometry: the only file that reads or writes it.

World is what Slicer's views show; a volume's RAS is what its file says, before its parent
transform. Everything that goes to the server or comes from it is in the volume's RAS. Knows nothing
about HTTP, findings or colours; takes nodes and the scene as arguments and changes only the nodes
it is given.
"""

import os

import numpy as np
import slicer
import vtk

from .errors import UnusableInput

PLANES = ("axial", "coronal", "sagittal")
_STACKED_ALONG = {"axial": 2, "coronal": 1, "sagittal": 0}  # RAS axis
# RAS axes of a slice's picture, rightwards and downwards; both run against the axis.
_SHOWN_ALONG = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2.0


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
    position_ijk = positionsIjk(volume, [position_world])[0]
    index = int(np.floor(position_ijk[axis] + 0.5))
    if not 0 <= index < shapeIjk(volume)[axis]:
        raise UnusableInput(
            "The slice view stands outside {}.".format(volume.GetName()),
            "Scroll into the volume, or ask about the whole volume.",
        )
    return index


def positionsIjk(volume, positions_world):
    """World positions (n, 3) as continuous voxel indices."""
    return _transformed(_worldToIjk(volume), positions_world)


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


def boxOfRoi(volume, roi):
    """The ROI as a box along the volume's own axes: two opposite corners, 6 numbers, volume RAS.

    Parent transforms of both are honoured; a turned ROI gives the smallest box that holds it,
    clipped to the volume. Raises UnusableInput for an unplaced ROI or one outside the volume.
    """
    if roi is None or roi.GetNumberOfControlPoints() == 0 or min(roi.GetSize()) <= 0:
        raise UnusableInput("No box is drawn.", "Draw an ROI around the thing to ask about.")
    low, high = _edgesIjk(volume, roi)
    return tuple((np.array([[*low, 1], [*high, 1]]) @ ijkToRas(volume).T)[:, :3].ravel().tolist())


def boxesOnSlices(volume, plane, roi):
    """[(slice index, corners (4, 3) in volume RAS)]: the ROI on every slice whose centre it holds.

    The ROI is taken as in `boxOfRoi`; one thinner than a slice lies on the slice nearest to it.
    """
    low, high = _edgesIjk(volume, roi)
    axis = sliceAxis(volume, plane)
    a, b = [n for n in range(3) if n != axis]
    indices = np.arange(np.ceil(low[axis] - 1e-6), np.floor(high[axis] + 1e-6) + 1)
    if not indices.size:
        middle = np.floor((low[axis] + high[axis]) / 2 + 0.5)
        indices = np.clip([middle], 0, shapeIjk(volume)[axis] - 1)
    boxes = []
    for index in indices:
        corners_ijk = np.full((4, 3), index)
        corners_ijk[:, a] = [low[a], high[a], high[a], low[a]]
        corners_ijk[:, b] = [low[b], low[b], high[b], high[b]]
        matrix = ijkToRas(volume)
        boxes.append((int(index), corners_ijk @ matrix[:3, :3].T + matrix[:3, 3]))
    return boxes


def boundsOfRoi(volume, roi):
    """(center_ras, size_mm, axes_ras) of the smallest box along the volume's axes around an ROI."""
    low, high = _edgesIjk(volume, roi)
    matrix = ijkToRas(volume)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    axes_ras = matrix[:3, :3] / spacing
    if np.linalg.det(axes_ras) < 0:
        axes_ras[:, 2] *= -1
    center_ras = matrix[:3, :3] @ ((low + high) / 2) + matrix[:3, 3]
    return center_ras, (high - low) * spacing, axes_ras


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


def cornersOfNormBox(volume, plane, index, box_norm):
    """The corners (4, 3), volume RAS, of a box that a model wrote about a slice's picture.

    `box_norm` is x0, y0, x1, y1 in 0..1000 of the picture, which shows the patient's right on the
    left, anterior or superior on top, and on sagittal slices anterior on the left.
    """
    matrix, shape = ijkToRas(volume), np.array(shapeIjk(volume))
    ras_axes = nearestRasAxes(matrix)
    x0, y0, x1, y1 = np.array(box_norm) / 1000.0
    corners_ijk = np.full((4, 3), float(index))
    shares = np.array([[x0, x1, x1, x0], [y0, y0, y1, y1]])
    for n, ras_axis in enumerate(_SHOWN_ALONG[plane]):
        axis = ras_axes.index(ras_axis)
        from_start = shares[n] if matrix[ras_axis, axis] < 0 else 1 - shares[n]
        corners_ijk[:, axis] = from_start * shape[axis] - 0.5
    return corners_ijk @ matrix[:3, :3].T + matrix[:3, 3]


def toWorld(volume, positions_ras):
    """Positions (n, 3) in the volume's RAS where the views show them."""
    return _transformed(_toWorld(volume), positions_ras)


def cornersWorld(volume, center_ras, size_mm, axes_ras):
    """The eight corners (8, 3) of an oriented box of the volume, where the views show them."""
    corners_ras = np.array(center_ras) + (_SIGNS * np.array(size_mm)) @ np.array(axes_ras).T
    return _transformed(_toWorld(volume), corners_ras)


def placeRoi(roi, volume, center_ras, size_mm, axes_ras):
    """Puts an ROI node onto an oriented box of the volume; it moves with the volume."""
    object_to_ras = np.eye(4)
    object_to_ras[:3, :3], object_to_ras[:3, 3] = axes_ras, center_ras
    moveTogether(roi, volume)
    roi.SetSize(*(float(length) for length in size_mm))
    roi.SetAndObserveObjectToNodeMatrix(_vtkMatrix(object_to_ras))


def viewMatrices(view):
    """(view pixels to world, slice axes to world) of a slice view, 4x4 each."""
    return _array(view.GetXYToRAS()), _array(view.GetSliceToRAS())


def layOnGrid(image, volume):
    """Gives vtkOrientedImageData the grid of a volume; its extent says which part of it."""
    image.SetGeometryFromImageToWorldMatrix(_vtkMatrix(ijkToRas(volume)))


def moveTogether(node, volume):
    """Puts a node under the volume's parent transform."""
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())


def moveAlike(node, volume):
    """Whether both are under the same parent transform, or under none."""
    return node.GetTransformNodeID() == volume.GetTransformNodeID()


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


def _edgesIjk(volume, roi):
    """(low, high): the edges of the smallest box along the volume's axes that holds an ROI."""
    corners_world = _transformed(roi.GetObjectToWorldMatrix(), _SIGNS * np.array(roi.GetSize()))
    corners_ijk = positionsIjk(volume, corners_world)
    limit = np.array(shapeIjk(volume)) - 0.5
    low, high = np.maximum(corners_ijk.min(0), -0.5), np.minimum(corners_ijk.max(0), limit)
    if (low >= high).any():
        raise UnusableInput(
            "{} lies outside {}.".format(roi.GetName(), volume.GetName()),
            "Move it into the volume.",
        )
    return low, high


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
