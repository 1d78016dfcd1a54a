"""How large files become, from headers only: what passes and what does not."""

from __future__ import annotations

import gzip
import io
import zipfile

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from bird_server.access import expansion
from bird_server.access.expansion import ExpandsTooFarError, check_archive, check_expansion
from bird_vlm.errors import BadVolumeError, BirdError

SHAPE = (20, 16, 12)


@pytest.fixture
def a_scan(tmp_path):
    """Writes random voxels in any format; the file's path."""

    def write(name: str, dtype=np.int16, compress: bool = True):
        path = tmp_path / name
        values = np.random.default_rng(5).integers(0, 999, SHAPE).astype(dtype)
        if name.endswith((".nii", ".nii.gz")):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
        elif name.endswith(".png"):
            Image.fromarray(values[:, :, 0].astype(np.uint8)).save(path)
        else:
            image = sitk.GetImageFromArray(values)
            sitk.WriteImage(image[..., 0] if name.endswith(".dcm") else image, str(path), compress)
        return path

    return write


@pytest.mark.parametrize("compress", [True, False], ids=["packed", "raw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "nrrd", "mha"])
def test_real_volumes_pass(a_scan, suffix, dtype, compress):
    check_expansion(a_scan(f"scan.{suffix}", dtype, compress))


@pytest.mark.parametrize("suffix", ["dcm", "png"])
def test_real_pictures_pass(a_scan, suffix):
    check_expansion(a_scan(f"scan.{suffix}"))


def test_nifti_2_and_the_other_byte_order_pass(tmp_path):
    values = np.ones(SHAPE, np.int16)
    nibabel.save(nibabel.Nifti2Image(values, np.eye(4)), tmp_path / "two.nii.gz")
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4), header), tmp_path / "big.nii")

    check_expansion(tmp_path / "two.nii.gz")
    check_expansion(tmp_path / "big.nii")


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "nrrd", "mha", "png", "dcm"])
def test_more_voxels_than_the_server_reads_are_refused(a_scan, suffix):
    with pytest.raises(ExpandsTooFarError, match="more than 100"):
        check_expansion(a_scan(f"scan.{suffix}"), max_voxels=100)


@pytest.mark.parametrize("suffix", ["nii", "nrrd", "mha"])
def test_raw_files_that_are_cut_off_are_refused(a_scan, suffix):
    path = a_scan(f"scan.{suffix}", compress=False)
    path.write_bytes(path.read_bytes()[:3000])

    with pytest.raises(BadVolumeError, match="fewer bytes"):
        check_expansion(path)


def test_a_mask_of_zeros_passes_while_it_is_small(tmp_path):
    path = tmp_path / "mask.nii.gz"
    mask = nibabel.Nifti1Image(np.zeros((128, 128, 128), np.uint8), np.eye(4))
    path.write_bytes(gzip.compress(mask.to_bytes()))
    assert path.stat().st_size * expansion.SUSPICIOUS_RATIO < 128**3

    check_expansion(path)


def test_folders_pass(tmp_path):
    check_expansion(tmp_path)


@pytest.mark.parametrize("given", ["many", "-1", "1e9"])
def test_a_limit_that_is_no_number_is_named(monkeypatch, given):
    monkeypatch.setenv("BIRD_VOLUME_VOXELS", given)

    with pytest.raises(BirdError, match="BIRD_VOLUME_VOXELS"):
        expansion.max_voxels_from_environment()


def zipped(tmp_path, **files: bytes):
    path = tmp_path / "series.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_the_files_of_a_plain_archive_are_told(tmp_path):
    path = zipped(tmp_path, **{"a/1.dcm": b"x" * 10, "a/2.dcm": b"y" * 20})

    assert [member.file_size for member in check_archive(path, 30)] == [10, 20]
    with pytest.raises(ExpandsTooFarError):
        check_archive(path, 29)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(expansion, "MAX_MEMBERS", 1)

    with pytest.raises(ExpandsTooFarError, match="2 files"):
        check_archive(zipped(tmp_path, a=b"x", b=b"y"), 100)


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "C:/a", "..\\a", "a\nb", "x" * 400])
def test_names_in_archives_stay_inside(tmp_path, name):
    with pytest.raises(BadVolumeError, match="leads elsewhere"):
        check_archive(zipped(tmp_path, **{name: b"x"}), 100)


def test_an_encrypted_archive_is_refused(tmp_path):
    path = zipped(tmp_path, a=b"x")
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\1\2") + 8] |= 1  # the flag of encryption in the table of contents
    path.write_bytes(data)

    with pytest.raises(BadVolumeError, match="encrypted"):
        check_archive(path, 100)


def test_gzip_that_is_cut_off_in_its_header_is_refused(tmp_path):
    path = tmp_path / "scan.nii.gz"
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb") as stream:
        stream.write(bytes(range(256)) * 8)
    path.write_bytes(buffer.getvalue()[:40])

    with pytest.raises(BadVolumeError):
        check_expansion(path)
