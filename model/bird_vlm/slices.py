"""Slices of a volume: an image plus one matrix that takes its pixels to RAS.

The only place that converts IJK <-> pixel and pixel <-> RAS. Axis choice, flips and the half-pixel
shift are folded into that matrix; nothing downstream branches on orientation. Knows nothing about
boxes, labels, intensities or files.

Pictures are in radiological display convention: axial and coronal slices show the patient's right
on the left, axial slices have anterior on top, coronal and sagittal ones superior on top, sagittal
slices have anterior on the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import io_orientation

from bird_vlm.contract import Plane, Point, VolumeGeometry
from bird_vlm.errors import BadRequestError

R, A, S = range(3)
# plane -> RAS axis the slices are stacked along, axis towards the picture's right, axis downwards;
# right and down both run against the RAS axis (towards L, P or I).
_DISPLAY_AXES: dict[str, tuple[int, int, int]] = {
    "axial": (S, R, A),
    "coronal": (A, R, S),
    "sagittal": (R, A, S),
}


@dataclass(frozen=True)
class SliceStack:
    """All slices of one volume in one plane of the volume's own axes.

    `width` and `height` are pixels of a slice picture, `count` is the number of slices. Slice
    `k` holds the voxels with index `k` along IJK axis `slice_axis`.
    """

    plane: Plane
    slice_axis: int
    x_axis: int
    y_axis: int
    x_flip: bool
    y_flip: bool
    shape_ijk: tuple[int, int, int]
    ijk_to_ras: np.ndarray  # 4x4

    @property
    def count(self) -> int:
        return self.shape_ijk[self.slice_axis]

    @property
    def width(self) -> int:
        return self.shape_ijk[self.x_axis]

    @property
    def height(self) -> int:
        return self.shape_ijk[self.y_axis]

    @property
    def edge_marks(self) -> tuple[str, str]:
        """The patient's side at the picture's left edge and at its top, of "R", "A", "S".

        >>> lps = ((-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
        >>> slice_stack(VolumeGeometry((4, 3, 2), lps), "sagittal").edge_marks
        ('A', 'S')
        """
        _, rightwards, downwards = _DISPLAY_AXES[self.plane]
        return "RAS"[rightwards], "RAS"[downwards]

    @property
    def spacing_mm(self) -> float:
        """Distance between neighbouring slice centres along the slice axis, mm."""
        return float(np.linalg.norm(self.ijk_to_ras[:3, self.slice_axis]))

    def cut(self, array: np.ndarray, index: int) -> np.ndarray:
        """Slice `index` of `array` (I, J, K, ...) as a picture (height, width, ...); a view."""
        if not 0 <= index < self.count:
            raise BadRequestError(f"slice: must lie in 0..{self.count - 1}, got {index}")
        picture = np.moveaxis(array, self.slice_axis, 0)[index]
        if self.x_axis < self.y_axis:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.y_flip else 1, :: -1 if self.x_flip else 1]

    def pixel_to_ijk(self, index: int) -> np.ndarray:
        """4x4 from (x, y, z, 1) to IJK.

        x and y are pixels with (0, 0) at the outer corner of the top-left pixel, z counts slices
        from the centre of slice `index`.
        """
        matrix = np.zeros((4, 4))
        for column, axis, flip in (
            (0, self.x_axis, self.x_flip),
            (1, self.y_axis, self.y_flip),
        ):
            matrix[axis, column] = -1.0 if flip else 1.0
            matrix[axis, 3] = self.shape_ijk[axis] - 0.5 if flip else -0.5
        matrix[self.slice_axis, 2] = 1.0
        matrix[self.slice_axis, 3] = index
        matrix[3, 3] = 1.0
        return matrix

    def pixel_to_ras(self, index: int) -> np.ndarray:
        """4x4 from (x, y, z, 1), as in `pixel_to_ijk`, to RAS millimetres."""
        return self.ijk_to_ras @ self.pixel_to_ijk(index)

    def corners_ras(
        self, index: int, box_pixel: tuple[float, float, float, float]
    ) -> tuple[Point, Point, Point, Point]:
        """The four corners of a box on slice `index`, mm, clockwise from the top left."""
        x0, y0, x1, y1 = box_pixel
        corners_pixel = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        corners = np.c_[corners_pixel, np.zeros(4), np.ones(4)] @ self.pixel_to_ras(index).T
        return tuple(tuple(map(float, corner[:3])) for corner in corners)

    def box_from_ras(
        self, box_ras: tuple[float, float, float, float, float, float]
    ) -> tuple[int, tuple[float, float, float, float]]:
        """The middle slice of a 3D box and the box on it, clipped to the picture.

        `box_ras` names two opposite corners of a box aligned with the volume's axes, mm. Raises
        BadRequestError where the box lies outside the volume.
        """
        ends_ras = np.c_[np.reshape(box_ras, (2, 3)), np.ones(2)]
        ends_pixel = ends_ras @ np.linalg.inv(self.pixel_to_ras(0)).T
        low, high = ends_pixel[:, :3].min(0), ends_pixel[:, :3].max(0)
        limits = np.array([self.width, self.height, self.count - 0.5])
        starts = np.array([0.0, 0.0, -0.5])
        if (high <= starts).any() or (low >= limits).any():
            raise BadRequestError(f"box_ras: lies outside the volume, got {list(box_ras)}")
        low, high = np.clip(low, starts, limits), np.clip(high, starts, limits)
        index = int(np.clip(np.round((low[2] + high[2]) / 2), 0, self.count - 1))
        return index, (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def slice_stack(geometry: VolumeGeometry, plane: Plane) -> SliceStack:
    """The stack of `plane` slices of a volume, along the volume's own axis nearest to it.

    >>> lps = ((-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    >>> stack = slice_stack(VolumeGeometry((4, 3, 2), lps), "axial")
    >>> stack.width, stack.height, stack.count
    (4, 3, 2)
    >>> stack.corners_ras(1, (0, 0, 4, 3))[0]
    (0.5, 0.5, 1.0)
    """
    ijk_to_ras = np.array(geometry.ijk_to_ras, dtype=float)
    orientation = io_orientation(ijk_to_ras)  # per IJK axis: RAS axis, +1 or -1
    ras_axes = orientation[:, 0].astype(int).tolist()
    slice_axis, x_axis, y_axis = (ras_axes.index(axis) for axis in _DISPLAY_AXES[plane])
    return SliceStack(
        plane=plane,
        slice_axis=slice_axis,
        x_axis=x_axis,
        y_axis=y_axis,
        x_flip=bool(orientation[x_axis, 1] > 0),
        y_flip=bool(orientation[y_axis, 1] > 0),
        shape_ijk=geometry.shape_ijk,
        ijk_to_ras=ijk_to_ras,
    )
