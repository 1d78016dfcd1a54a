"""Fixtures that all rooms use: the shared folder, and volumes whose contents are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from hypothesis import settings
from scipy.spatial.transform import Rotation

from bird_vlm.volumes import Volume

if TYPE_CHECKING:
    from bird_vlm.engine import Engine

# A loaded machine is slow, not wrong.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Phantom:
    """A CT-like volume with one bright block, "the block", and where it lies."""

    volume: Volume
    first_ijk: tuple[int, int, int]
    last_ijk: tuple[int, int, int]  # included

    @property
    def mask(self) -> np.ndarray:
        mask = np.zeros(self.volume.array.shape, dtype=bool)
        mask[tuple(slice(a, b + 1) for a, b in zip(self.first_ijk, self.last_ijk, strict=True))] = 1
        return mask

    def save(self, path: Path) -> Path:
        nibabel.save(nibabel.Nifti1Image(self.volume.array, self.volume.ijk_to_ras), path)
        return path


def a_phantom(ijk_to_ras: np.ndarray) -> Phantom:
    """Air (-1000 HU) with a body (0 HU) and an off-centre block (200 HU), 20 x 18 x 12 voxels."""
    first_ijk, last_ijk = (4, 7, 3), (8, 13, 6)
    array = np.full((20, 18, 12), -1000, dtype=np.float32)
    array[2:18, 2:16, 1:11] = 0
    array[4:9, 7:14, 3:7] = 200
    return Phantom(Volume(array, np.asarray(ijk_to_ras, dtype=float)), first_ijk, last_ijk)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The data folder beside the repository; a user's clone has none."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (real scans), which does not come with the repository")
    return folder


@pytest.fixture
def a_phantom_volume() -> Phantom:
    """In LPS-like axes (as DICOM scans come), 2 x 2 x 5 mm."""
    matrix = np.diag([-2.0, -2.0, 5.0, 1.0])
    matrix[:3, 3] = (30, 25, -40)
    return a_phantom(matrix)


@pytest.fixture
def an_oblique_volume() -> Phantom:
    """Turned by 30 degrees about a skew axis."""
    matrix = np.eye(4)
    turn = Rotation.from_rotvec(np.deg2rad(30) * np.array([1, 2, 2]) / 3).as_matrix()
    matrix[:3, :3] = turn @ np.diag([1.5, 2.0, 3.0])
    matrix[:3, 3] = (-10, 20, 30)
    return a_phantom(matrix)


@pytest.fixture
def a_left_handed_volume() -> Phantom:
    """RAS axes with the first flipped: its matrix has a negative determinant."""
    return a_phantom(np.diag([-1.0, 1.0, 2.0, 1.0]))


@pytest.fixture(scope="session")
def mni152_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MNI152 T1 brain that nilearn carries, 1 mm, as a file."""
    from nilearn.datasets import load_mni152_template

    path = tmp_path_factory.mktemp("mni") / "mni152_t1.nii.gz"
    load_mni152_template(resolution=1).to_filename(path)
    return path


@pytest.fixture(scope="session")
def mni152(mni152_file: Path) -> Volume:
    from bird_vlm.volumes import read_volume

    return read_volume(mni152_file)


@pytest.fixture(scope="session")
def bird_mini() -> Engine:
    """The shipped model."""
    from bird_vlm.engine import load_engine
    from bird_vlm.running import Running

    return load_engine("bird-mini", Running("cpu"))
