"""A volume's voxel grid, and the way from it to what the views show.

Matrices come and go as numpy arrays, positions as (n, 3). Knows nothing about ROIs or planes.
"""

import numpy as np
import slicer
import vtk


def ijkToRas(volume):
    """4x4 from voxel index to the volume's RAS, mm."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return arrayOf(matrix)


def shapeIjk(volume):
    return tuple(volume.GetImageData().GetDimensions())


def positionsIjk(volume, positions_world):
    """World positions (n, 3) as continuous voxel indices."""
    return transformed(ijkTransform(volume), positions_world)


def toWorld(volume, positions_ras):
    """Positions (n, 3) in the volume's RAS where the views show them."""
    return transformed(worldTransform(volume), positions_ras)


def layOnGrid(image, volume):
    """Gives vtkOrientedImageData the grid of a volume; its extent says which part of it."""
    image.SetGeometryFromImageToWorldMatrix(matrixOf(ijkToRas(volume)))


def viewMatrices(view):
    """(view pixels to world, slice axes to world) of a slice view, 4x4 each."""
    return arrayOf(view.GetXYToRAS()), arrayOf(view.GetSliceToRAS())


def worldTransform(node):
    """From a node's own space to world: a (4, 4) array, or vtkGeneralTransform under a warp."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if parent.IsTransformToWorldLinear():
        matrix = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(matrix)
        return arrayOf(matrix)
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(parent, None, transform)
    return transform


def ijkTransform(volume):
    """From world to a volume's voxel indices, as `worldTransform`."""
    to_world, from_ras = worldTransform(volume), np.linalg.inv(ijkToRas(volume))
    if isinstance(to_world, np.ndarray):
        return from_ras @ np.linalg.inv(to_world)
    transform = vtk.vtkGeneralTransform()
    parent = volume.GetParentTransformNode()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, parent, transform)
    transform.PostMultiply()
    transform.Concatenate(matrixOf(from_ras))
    return transform


def transformed(transform, points):
    """Points (n, 3) through what `worldTransform` returns."""
    if isinstance(transform, np.ndarray):
        return np.asarray(points) @ transform[:3, :3].T + transform[:3, 3]
    return np.array([transform.TransformPoint(*map(float, point)) for point in points])


def arrayOf(matrix):
    """A vtkMatrix4x4 as a (4, 4) array."""
    array = np.empty((4, 4))
    matrix.DeepCopy(array.ravel(), matrix)  # writes into the array, a view of its memory
    return array


def matrixOf(array):
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix
