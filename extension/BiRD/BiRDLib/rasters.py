"""Boxes as voxels of a volume, and what within them belongs to the object.

A patch is a part of the volume's grid: `start_ijk`, its first voxel, and `mask`, bool (I, J, K).
Knows nothing about findings or segmentations.
"""

from collections import namedtuple

import numpy as np
import slicer
from vtk.util import numpy_support

from . import scene as geometry
from .errors import UnusableInput
from .i18n import tr as _

Patch = namedtuple("Patch", "start_ijk mask")
_EDGE = 1e-4  # of a voxel: a centre on a box's edge is inside
_BINS = 256
_CORE = 0.25  # half of the box's middle half: surely the object, where it is solid
_MARGIN = 0.25  # of the box's edges, around it: surely not the object


def patch_of_corners(volume, all_corners_ras):
    """The voxels whose centres lie in flat boxes on slices; `all_corners_ras`: (4, 3) each."""
    to_ijk = np.linalg.inv(geometry.ijkToRas(volume))
    spans = []
    for corners_ras in all_corners_ras:
        corners_ijk = np.array(corners_ras) @ to_ijk[:3, :3].T + to_ijk[:3, 3]
        spans.append(_span(volume, corners_ijk.min(0), corners_ijk.max(0)))
    start = np.min([low for low, _ in spans], axis=0)
    mask = np.zeros(np.max([high for _, high in spans], axis=0) - start, dtype=bool)
    for low, high in spans:
        mask[tuple(map(slice, low - start, high - start))] = True
    return _checked(volume, Patch(start, mask))


def patch_of_place(volume, place):
    """The voxels whose centres lie in an oriented box (places.Place)."""
    matrix = geometry.ijkToRas(volume)
    box_to_ijk = np.linalg.inv(matrix[:3, :3]) @ (np.array(place.axes_ras) * place.size_mm)
    center_ijk = np.linalg.solve(matrix[:3, :3], np.array(place.center_ras) - matrix[:3, 3])
    reach = np.abs(box_to_ijk).sum(axis=1) / 2
    low, high = _span(volume, center_ijk - reach, center_ijk + reach)
    if (high <= low).any():
        return _checked(volume, Patch(low, np.zeros((0, 0, 0), dtype=bool)))
    indices = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1)
    in_box = (indices - center_ijk) @ np.linalg.inv(box_to_ijk).T  # (I, J, K, 3): -0.5..0.5
    return _checked(volume, Patch(low, (np.abs(in_box) <= 0.5 + _EDGE).all(axis=-1)))


def threshold_in(volume, patch):
    """The part of a patch that is as bright as its middle, split where Otsu's method splits it."""
    values = voxels(volume, patch.start_ijk, patch.mask.shape)
    split = otsu(values[patch.mask])
    core = _core(patch.mask)
    bright = (values[core] > split).mean() >= 0.5
    return patch._replace(mask=patch.mask & ((values > split) == bright))


def grow_in(volume, patch):
    """The part of a patch that grows from its middle before the surroundings grow into it.

    Slicer's own grow-from-seeds, with the middle of the box and a margin around it as seeds.
    """
    margin = np.maximum(2, np.ceil(np.array(patch.mask.shape) * _MARGIN)).astype(int)
    low, high = _span(volume, patch.start_ijk - margin,
                      patch.start_ijk + patch.mask.shape + margin - 1)  # fmt: skip
    inner = tuple(map(slice, patch.start_ijk - low, patch.start_ijk - low + patch.mask.shape))
    seeds = np.full(high - low, 2, dtype=np.int16)
    seeds[inner][patch.mask] = 0
    seeds[inner][_core(patch.mask)] = 1
    values = voxels(volume, low, seeds.shape)
    grow = slicer.vtkImageGrowCutSegment()
    grow.SetIntensityVolume(_image(values))
    grow.SetSeedLabelVolume(_image(seeds))
    grow.Update()
    grown = numpy_support.vtk_to_numpy(grow.GetOutput().GetPointData().GetScalars())
    grown = grown.reshape(seeds.shape, order="F")[inner] == 1
    return patch._replace(mask=patch.mask & grown)


def otsu(values):
    """The value that splits values best into a dark and a bright class (Otsu 1979).

    >>> 10 < otsu(np.array([9.0, 10, 10, 11, 50, 51, 52])) < 50
    True
    """
    counts, edges = np.histogram(values, bins=_BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    means = sums / np.maximum(below, 1), (sums[-1] - sums) / np.maximum(above, 1)
    between = below * above * (means[0] - means[1]) ** 2.0
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(edges[1:][best].mean())


def labelmap(volume, patch):
    """A patch as vtkOrientedImageData on the volume's grid, 1 inside."""
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(_image(patch.mask.astype(np.uint8)))
    start, stop = patch.start_ijk, patch.start_ijk + patch.mask.shape - 1
    image.SetExtent(*(int(edge) for pair in np.stack([start, stop], axis=1) for edge in pair))
    geometry.layOnGrid(image, volume)
    return image


def voxels(volume, start_ijk, shape_ijk):
    """The volume's values in a part of its grid, (I, J, K)."""
    array_kji = slicer.util.arrayFromVolume(volume)
    part = tuple(slice(a, a + n) for a, n in zip(start_ijk[::-1], shape_ijk[::-1]))  # noqa: B905
    return array_kji[part].transpose(2, 1, 0)


def _span(volume, low_ijk, high_ijk):
    """(first, last + 1) of the voxels with centres within the edges, in the volume."""
    low = np.ceil(np.asarray(low_ijk) - _EDGE).astype(int)
    high = np.floor(np.asarray(high_ijk) + _EDGE).astype(int) + 1
    return np.maximum(low, 0), np.minimum(high, geometry.shapeIjk(volume))


def _checked(volume, patch):
    if not patch.mask.any():
        raise UnusableInput(
            _("A box holds no voxel of {}.").format(volume.GetName()), _("Move or enlarge it.")
        )
    return patch


def _core(mask):
    """The middle of a mask's extent; the whole mask where it is too thin for a middle."""
    grids = np.meshgrid(
        *(np.abs((np.arange(n) + 0.5) / n - 0.5) for n in mask.shape), indexing="ij", sparse=True
    )
    core = mask & (sum((grid / _CORE) ** 2 for grid in grids) <= 1)
    return core if core.any() else mask


def _image(array_ijk):
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*array_ijk.shape)
    flat = np.ascontiguousarray(array_ijk.ravel(order="F"))
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(flat, deep=True))
    return image
