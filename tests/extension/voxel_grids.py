"""Where voxels may lie: affine matrices from IJK to RAS for the extension's tests. Test helper."""

import numpy as np


def rotation(axis, degrees):
    """4x4 about the x, y or z axis (0, 1, 2)."""
    a, b = [n for n in range(3) if n != axis]
    matrix, angle = np.eye(4), np.deg2rad(degrees)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


def affine(spacing, origin=(0, 0, 0), turn=None):
    matrix = np.diag([*map(float, spacing), 1.0])
    matrix = matrix if turn is None else turn @ matrix
    matrix[:3, 3] = origin
    return matrix


GEOMETRIES = {
    "ras": affine((1, 1, 2), (-30, -25, -40)),
    "lps": affine((-0.8, -0.8, 3), (20, 20, -60)),
    "left-handed": affine((-1, 1, 2), (30, -25, -40)),
    "coronal-stack": affine((1, 1, 1), (-30, 40, -20)) @ np.eye(4)[[0, 2, 1, 3]],
    "oblique": affine((0.8, -0.8, 3), (10, 30, -50), rotation(2, 25) @ rotation(0, 15)),
}
