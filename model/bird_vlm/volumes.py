"""Volumes: what a file holds, as an array and the matrix that takes its voxels to RAS.

Reads NIfTI (nibabel), PNG and JPEG (Pillow), and NRRD, MetaImage and DICOM (SimpleITK). Anything
that cannot be shown is refused here, so that nobody downstream checks again. Knows nothing about
slices, windows or labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bird_vlm import volume_files
from bird_vlm.contract import VolumeGeometry
from bird_vlm.errors import BadVolumeError

SUFFIXES = volume_files.SUFFIXES
MIN_EDGE = 4  # voxels; at least two of the three edges must be this long
_MIN_SINE = 1e-3  # of the angles between the axes; below it the matrix is taken as singular


@dataclass(frozen=True)
class Volume:
    """A scan, or a 2D picture as a volume of one slice.

    `array` is float32 (I, J, K), or uint8 (I, J, 1, 3) for a colour picture; all values are finite.
    `ijk_to_ras` is (4, 4) float64: voxel index (integer = voxel centre) to RAS millimetres. A
    picture without a position in the patient (PNG, JPEG) has I = width, J = height, one
    millimetre per pixel, and lies so that its axial slice is the picture itself.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray

    @cached_property
    def digest(self) -> str:
        """Changes with any voxel value, the shape and the position."""
        hasher = hashlib.blake2b(self.ijk_to_ras.tobytes(), digest_size=16)
        hasher.update(repr((self.array.shape, self.array.dtype.str)).encode())
        hasher.update(np.ravel(self.array, order="K").data)
        return hasher.hexdigest()

    @property
    def is_picture(self) -> bool:
        """One slice only."""
        return 1 in self.array.shape[:3]

    @property
    def is_colour(self) -> bool:
        return self.array.ndim == 4

    def geometry(self) -> VolumeGeometry:
        return VolumeGeometry(
            shape_ijk=tuple(map(int, self.array.shape[:3])),
            ijk_to_ras=tuple(tuple(map(float, row)) for row in self.ijk_to_ras),
        )


def read_volume(path: str | Path) -> Volume:
    """The volume or picture in a file, or the largest series in a DICOM folder.

    Raises BadVolumeError, in one line with the path, where the file is missing, empty, truncated,
    of an unknown kind, not one 3D volume or 2D picture, in colour and 3D, not finite, tiny or huge,
    or without a usable position in space.
    """
    path = Path(path)
    read = _reader(path)
    try:
        array, ijk_to_ras = read(path)
        return _checked(array, ijk_to_ras)
    except BadVolumeError as error:
        raise BadVolumeError(f"{path}: {error}") from error.__cause__


def _reader(path: Path) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    if not path.exists():
        raise BadVolumeError(f"{path}: does not exist; check the spelling")
    if path.is_dir():
        return volume_files.read_dicom_folder
    if path.stat().st_size == 0:
        raise BadVolumeError(f"{path}: is empty (0 bytes); export or copy the file again")
    name = path.name.lower()
    for suffix, read in volume_files.READERS.items():
        if name.endswith(suffix):
            return read
    if volume_files.is_dicom(path):
        return volume_files.read_dicom_file
    raise BadVolumeError(
        f"{path}: unknown kind of file; give one of {' '.join(SUFFIXES)} or a DICOM folder"
    )


def _checked(array: np.ndarray, ijk_to_ras: np.ndarray) -> Volume:
    colour = array.ndim == 4
    if colour and array.shape[2] != 1:
        raise BadVolumeError(
            f"is a colour volume of {_size(array)} voxels; convert it to grey values first"
        )
    if sorted(array.shape[:3])[1] < MIN_EDGE:
        raise BadVolumeError(
            f"has only {_size(array)} voxels; a slice needs at least {MIN_EDGE} x {MIN_EDGE}"
        )
    _check_matrix(ijk_to_ras)
    array = array if colour else _finite(array)
    return Volume(array=array, ijk_to_ras=np.array(ijk_to_ras, dtype=np.float64))


def _finite(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        array = np.asarray(array, dtype=np.float32)
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise BadVolumeError(
            f"has {bad} voxels that are NaN or infinite; replace them and save the file again"
        )
    return array


def _check_matrix(ijk_to_ras: np.ndarray) -> None:
    axes = np.asarray(ijk_to_ras)[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    usable = np.isfinite(ijk_to_ras).all() and (lengths > 0).all()
    if not usable or abs(np.linalg.det(axes / lengths)) < _MIN_SINE:
        raise BadVolumeError(
            "has a singular matrix from voxels to millimetres, "
            f"{np.asarray(ijk_to_ras)[:3].tolist()}; repair the header's orientation and spacing"
        )


def _size(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape[:3]))
