"""The slices of a volume along its own axes: which is which, and boxes on them.

Knows nothing about ROIs.
"""

import numpy as np

from ..errors import UnusableInput
from ..i18n import tr as _
from .grids import ijkToRas, positionsIjk, shapeIjk, transformed, worldTransform

PLANES = ("axial", "coronal", "sagittal")
_STACKED_ALONG = {"axial": 2, "coronal": 1, "sagittal": 0}  # RAS axis
# RAS axes of a slice's picture, rightwards and downwards; both run against the axis.
_SHOWN_ALONG = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}


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
            _("The slice view stands outside {}.").format(volume.GetName()),
            _("Scroll into the volume, or ask about the whole volume."),
        )
    return index


def sliceNormalWorld(volume, plane):
    """Unit normal of the volume's `plane` slices in world, at the volume's middle."""
    axis = sliceAxis(volume, plane)
    middle = (np.array(shapeIjk(volume)) - 1) / 2.0
    points_ijk = np.vstack([middle, middle + np.eye(3)])
    points_ras = points_ijk @ ijkToRas(volume)[:3, :3].T + ijkToRas(volume)[:3, 3]
    points = transformed(worldTransform(volume), points_ras)
    edges = np.delete(points[1:] - points[0], axis, axis=0)
    normal = np.cross(edges[0], edges[1])
    return normal / np.linalg.norm(normal)


def slabsOfSliceBoxes(volume, plane, corners_ras):
    """(centers_ras (n, 3), sizes_mm (n, 3), axes_ras (n, 3, 3)) of slice boxes, one slice thick.

    `corners_ras` (n, 4, 3) go around each box in the middle of its slice. The axes (columns) are
    right-handed.
    """
    corners = np.array(corners_ras, dtype=float).reshape(-1, 4, 3)
    across, down = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    thickness = np.linalg.norm(ijkToRas(volume)[:3, sliceAxis(volume, plane)])
    width, height = (np.linalg.norm(edge, axis=1, keepdims=True) for edge in (across, down))
    sizes = np.hstack([width, height, np.full_like(width, thickness)])
    across, down = across / width, down / height
    axes = np.stack([across, down, np.cross(across, down)], axis=2)
    return corners.mean(axis=1), sizes, axes


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
