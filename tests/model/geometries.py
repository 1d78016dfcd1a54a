"""Hypothesis strategies: where a volume can lie, and boxes on its slices."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bird_vlm.boxes import NORM_MAX
from bird_vlm.contract import PLANES, VolumeGeometry

planes = st.sampled_from(PLANES)
edges = st.integers(1, 40)


@st.composite
def matrices(draw) -> np.ndarray:
    """4x4 ijk_to_ras: any order and direction of axes, turned by up to 44 degrees."""
    order = draw(st.permutations(range(3)))
    flips = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    axis = np.add(draw(st.tuples(*[st.floats(-1, 1)] * 3)), (0, 0, 1e-3))
    angle = np.deg2rad(draw(st.floats(0, 44)))
    spacing = draw(st.tuples(*[st.floats(0.3, 8.0)] * 3))
    matrix = np.eye(4)
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    matrix[:3, :3] = turn @ np.eye(3)[:, order] * np.multiply(flips, spacing)
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return matrix


@st.composite
def geometries(draw) -> VolumeGeometry:
    """Volumes and 2D pictures of 1 to 40 voxels per edge."""
    shape_ijk = draw(st.tuples(edges, edges, edges))
    rows = tuple(tuple(map(float, row)) for row in draw(matrices()))
    return VolumeGeometry(shape_ijk, rows)


@st.composite
def norm_boxes(draw) -> tuple[int, int, int, int]:
    """From one unit wide to the full picture; the border is drawn often."""
    x0, y0 = (draw(st.integers(0, NORM_MAX - 1)) for _ in "xy")
    x1, y1 = (draw(st.integers(low + 1, NORM_MAX)) for low in (x0, y0))
    return x0, y0, x1, y1


@st.composite
def pixel_boxes(draw, width: int, height: int) -> tuple[float, float, float, float]:
    """Boxes around whole pixels, one pixel at least."""
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return float(x0), float(y0), float(x1), float(y1)
