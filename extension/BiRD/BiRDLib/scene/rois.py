"""ROI nodes and other markups: where they stand in a volume, and putting them there.

Parent transforms of both are honoured.
"""

import numpy as np

from ..errors import UnusableInput
from ..i18n import tr as _
from .grids import arrayOf, ijkToRas, matrixOf, positionsIjk, shapeIjk, transformed, worldTransform
from .planes import sliceAxis

_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2.0


def boxOfRoi(volume, roi):
    """The ROI as a box along the volume's own axes: two opposite corners, 6 numbers, volume RAS.

    Parent transforms of both are honoured; a turned ROI gives the smallest box that holds it,
    clipped to the volume. Raises UnusableInput for an unplaced ROI or one outside the volume.
    """
    if roi is None or roi.GetNumberOfControlPoints() == 0 or min(roi.GetSize()) <= 0:
        raise UnusableInput(_("No box is drawn."), _("Draw an ROI around the thing to ask about."))
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


def cornersWorld(volume, centers_ras, sizes_mm, axes_ras):
    """The corners (n, 8, 3) of oriented boxes of the volume, where the views show them."""
    halves = _SIGNS * np.reshape(sizes_mm, (-1, 1, 3))  # (n, 8, 3)
    axes = np.swapaxes(np.reshape(axes_ras, (-1, 3, 3)), 1, 2)
    corners_ras = np.reshape(centers_ras, (-1, 1, 3)) + halves @ axes
    return transformed(worldTransform(volume), corners_ras.reshape(-1, 3)).reshape(-1, 8, 3)


def placeRoi(roi, volume, center_ras, size_mm, axes_ras):
    """Puts an ROI node onto an oriented box of the volume; it moves with the volume."""
    object_to_ras = np.eye(4)
    object_to_ras[:3, :3], object_to_ras[:3, 3] = axes_ras, center_ras
    moveTogether(roi, volume)
    roi.SetSize(*(float(length) for length in size_mm))
    roi.SetAndObserveObjectToNodeMatrix(matrixOf(object_to_ras))


def boxOfNode(roi):
    """(center_ras, size_mm, axes_ras) of an ROI node, before its parent transform."""
    object_to_ras = arrayOf(roi.GetObjectToNodeMatrix())
    return object_to_ras[:3, 3], np.array(roi.GetSize()), object_to_ras[:3, :3]


def sizeOfNode(roi):
    """Edge lengths of an ROI node, mm, before its parent transform."""
    return tuple(roi.GetSize())


def moveTogether(node, volume):
    """Puts a node under the volume's parent transform."""
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())


def moveAlike(node, volume):
    """Whether both are under the same parent transform, or under none."""
    return node.GetTransformNodeID() == volume.GetTransformNodeID()


def _edgesIjk(volume, roi):
    """(low, high): the edges of the smallest box along the volume's axes that holds an ROI."""
    corners_world = transformed(
        arrayOf(roi.GetObjectToWorldMatrix()), _SIGNS * np.array(roi.GetSize())
    )
    corners_ijk = positionsIjk(volume, corners_world)
    limit = np.array(shapeIjk(volume)) - 0.5
    low, high = np.maximum(corners_ijk.min(0), -0.5), np.minimum(corners_ijk.max(0), limit)
    if (low >= high).any():
        raise UnusableInput(
            _("{} lies outside {}.").format(roi.GetName(), volume.GetName()),
            _("Move it into the volume."),
        )
    return low, high
