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


def worldTransform(volume):
    """vtkAbstractTransform from the volume's RAS to world; its parents may be warps."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        volume.GetParentTransformNode(), None, transform
    )
    return transform


def ijkTransform(volume):
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        None, volume.GetParentTransformNode(), transform
    )
    transform.PostMultiply()
    transform.Concatenate(matrixOf(np.linalg.inv(ijkToRas(volume))))
    return transform


def transformed(transform, points):
    """Points (n, 3) through a vtkAbstractTransform or a vtkMatrix4x4."""
    if isinstance(transform, vtk.vtkMatrix4x4):
        matrix = arrayOf(transform)
        return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]
    return np.array([transform.TransformPoint(*map(float, point)) for point in points])


def arrayOf(matrix):
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def matrixOf(array):
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix
