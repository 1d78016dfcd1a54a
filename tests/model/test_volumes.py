"""Volumes: real formats are read in RAS, and what cannot be shown is refused in one line."""

from __future__ import annotations

import gzip
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from bird_vlm.errors import BadVolumeError
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import SUFFIXES, read_volume

RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(8, 9, 10)).astype(np.float32)
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def save_nifti(path: Path, array: np.ndarray, ijk_to_ras: np.ndarray | None = None) -> Path:
    image = nibabel.Nifti1Image(array, None)
    image.header.set_sform(np.eye(4) if ijk_to_ras is None else ijk_to_ras, code=1)
    nibabel.save(image, path)
    return path


def save_itk(path: Path, array_kji: np.ndarray, is_vector: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array_kji, isVector=is_vector), str(path))
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def half(path: Path) -> Path:
    return write(path, path.read_bytes()[: path.stat().st_size // 2])


def save_picture(path: Path, mode: str = "L") -> Path:
    Image.fromarray(RNG.integers(0, 255, (20, 30), dtype=np.uint8)).convert(mode).save(path)
    return path


def save_dicom(path: Path, z: float = 0.0, series: str = "1.2.3") -> Path:
    """A CT slice of 8 x 6 pixels, 1000 above its Hounsfield values."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = (
        pydicom.uid.generate_uid()
    )
    dataset.SOPClassUID, dataset.Modality = pydicom.uid.CTImageStorage, "CT"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, "1.2"
    dataset.Rows, dataset.Columns = 6, 8
    dataset.PixelSpacing, dataset.SliceThickness = [2, 1.5], 3
    dataset.ImagePositionPatient = [10, 20, z]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 0, 1, -1000
    dataset.PixelData = np.arange(48, dtype=np.uint16).tobytes()
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.save_as(path, write_like_original=False)
    return path


def save_series(folder: Path, positions: list[float], series: str = "1.2.3") -> Path:
    folder.mkdir()
    for i, z in enumerate(positions):
        save_dicom(folder / f"{i}.dcm", z, series)
    return folder


def test_nifti_keeps_values_and_matrix(tmp_path, an_oblique_volume):
    volume = read_volume(an_oblique_volume.save(tmp_path / "scan.nii.gz"))
    np.testing.assert_array_equal(volume.array, an_oblique_volume.volume.array)
    np.testing.assert_allclose(volume.ijk_to_ras, an_oblique_volume.volume.ijk_to_ras, atol=1e-5)
    assert volume.array.dtype == np.float32
    assert volume.ijk_to_ras.dtype == np.float64
    assert volume.geometry().shape_ijk == (20, 18, 12)
    assert not volume.is_picture


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("phantom", ["a_phantom_volume", "an_oblique_volume"])
def test_itk_formats_agree_with_nifti(suffix, phantom, tmp_path, request):
    phantom = request.getfixturevalue(phantom)
    nifti = phantom.save(tmp_path / "scan.nii.gz")
    other = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(nifti)), str(other))

    volume = read_volume(other)

    np.testing.assert_array_equal(volume.array, phantom.volume.array)
    np.testing.assert_allclose(volume.ijk_to_ras, phantom.volume.ijk_to_ras, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        pytest.param("a.nii", NOISE[..., None], id="fourth axis of one"),
        pytest.param("a.nii", NOISE.astype(">i2"), id="big-endian integers"),
        pytest.param("a.NII.GZ", NOISE, id="capital suffix"),
    ],
)
def test_nifti_variants(name, array, tmp_path):
    volume = read_volume(save_nifti(tmp_path / name, array))
    assert volume.array.shape == (8, 9, 10)


def test_nifti_scaling_is_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(1000, dtype=np.int16).reshape(10, 10, 10), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "scan.nii")
    raw = (tmp_path / "scan.nii").read_bytes()
    assert read_volume(write(tmp_path / "b.nii", raw)).array.min() == pytest.approx(-1024, abs=3)


@pytest.mark.parametrize(
    ("name", "mode", "colour"),
    [
        pytest.param("a.png", "L", False, id="grey"),
        pytest.param("a.png", "LA", False, id="grey with alpha"),
        pytest.param("a.png", "1", False, id="black and white"),
        pytest.param("a.png", "I;16", False, id="16-bit grey"),
        pytest.param("a.png", "RGB", True, id="colour"),
        pytest.param("a.png", "RGBA", True, id="colour with alpha"),
        pytest.param("a.png", "P", True, id="palette"),
        pytest.param("a.jpg", "L", False, id="grey JPEG"),
        pytest.param("a.jpeg", "CMYK", True, id="printer's JPEG"),
    ],
)
def test_pictures(name, mode, colour, tmp_path):
    path = save_picture(tmp_path / name, mode)
    volume = read_volume(path)
    assert volume.is_picture
    assert volume.is_colour == colour
    assert volume.array.shape == (30, 20, 1, 3)[: 4 if colour else 3]


@pytest.mark.parametrize(
    ("mode", "shown_as"), [("L", "L"), ("LA", "L"), ("I;16", "I;16"), ("RGB", "RGB"), ("P", "RGB")]
)
def test_the_axial_slice_of_a_picture_is_the_picture(mode, shown_as, tmp_path):
    path = save_picture(tmp_path / "a.png", mode)
    volume = read_volume(path)
    picture = slice_stack(volume.geometry(), "axial").cut(volume.array, 0)
    with Image.open(path) as image:
        shown = image if image.mode == shown_as else image.convert(shown_as)
        np.testing.assert_array_equal(picture, np.asarray(shown))


def test_a_dicom_series_is_read_in_hounsfield_units_and_ras(tmp_path):
    volume = read_volume(save_series(tmp_path / "ct", [6, 0, 3]))
    assert volume.array.shape == (8, 6, 3)
    assert (volume.array.min(), volume.array.max()) == (-1000, -953)
    expected = np.diag([-1.5, -2, 3, 1])
    expected[:3, 3] = (-10, -20, 0)
    np.testing.assert_allclose(volume.ijk_to_ras, expected)


@pytest.mark.parametrize("name", ["a.dcm", "CT.1.2.840.113619"])
def test_one_dicom_file_is_a_picture_with_a_position(name, tmp_path):
    volume = read_volume(save_dicom(tmp_path / name, z=7))
    assert volume.is_picture
    assert volume.array.shape == (8, 6, 1)
    np.testing.assert_allclose(volume.ijk_to_ras[:3, 3], (-10, -20, 7))


def test_of_several_series_the_largest_is_read_and_the_others_are_mentioned(tmp_path, caplog):
    folder = save_series(tmp_path / "study", [])
    save_series(folder / "scout", [0], series="1.2.9")
    save_series(folder / "axial", [0, 3, 6, 9], series="1.2.3")
    with caplog.at_level(logging.WARNING):
        assert read_volume(folder).array.shape == (8, 6, 4)
    assert "2 DICOM series" in caplog.text
    assert "axial/1.2.3" in caplog.text


@pytest.mark.shared
def test_the_real_dicom_series_lies_where_its_segmentation_does(shared):
    volume = read_volume(shared / "data/dicom/ct_series")
    segmentation = read_volume(shared / "data/dicom/example_seg_dicom.nii.gz")
    assert volume.array.shape == (512, 512, 20)
    assert volume.array.min() == -1024
    ours = slice_stack(volume.geometry(), "axial").pixel_to_ras(0)
    theirs = slice_stack(segmentation.geometry(), "axial").pixel_to_ras(0)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.shared
def test_the_real_nrrd_agrees_with_its_label(shared):
    image, label = (read_volume(shared / f"data/nrrd/brain1_{n}.nrrd") for n in ("image", "label"))
    assert image.geometry() == label.geometry()
    assert image.array[label.array > 0].mean() > image.array.mean()


Make = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda d: d / "none.nii.gz", "does not exist", id="missing"),
        pytest.param(lambda d: write(d / "a.nii.gz", b""), "empty", id="empty"),
        pytest.param(lambda d: write(d / "a.txt", b"text"), "unknown kind of file", id="suffix"),
        pytest.param(lambda d: write(d / "a", b"text"), "unknown kind of file", id="no suffix"),
        pytest.param(lambda d: half(save_nifti(d / "a.nii.gz", NOISE)), "read", id="cut nii.gz"),
        pytest.param(
            lambda d: half(save_nifti(d / "a.nii", NOISE)), "cannot be read", id="cut nii"
        ),
        pytest.param(lambda d: write(d / "a.nii.gz", b"x" * 999), "gzip", id="no gzip"),
        pytest.param(lambda d: write(d / "a.nii.gz", gzip.compress(b"x" * 999)), "read", id="zip"),
        pytest.param(lambda d: half(save_itk(d / "a.nrrd", NOISE)), "be read", id="cut nrrd"),
        pytest.param(lambda d: write(d / "a.nrrd", b"x" * 999), "be read", id="no nrrd"),
        pytest.param(lambda d: write(d / "a.mha", b"x" * 999), "be read", id="no mha"),
        pytest.param(lambda d: write(d / "a.dcm", b"x" * 999), "be read", id="no DICOM"),
        pytest.param(lambda d: half(save_dicom(d / "a.dcm")), "be read", id="cut DICOM"),
        pytest.param(lambda d: write(d / "a.png", b"x" * 999), "cannot be read", id="no PNG"),
        pytest.param(lambda d: half(save_picture(d / "a.png")), "truncated", id="cut PNG"),
        pytest.param(lambda d: half(save_picture(d / "a.jpg")), "truncated", id="cut JPEG"),
        pytest.param(
            lambda d: save_nifti(d / "a.nii", np.zeros((8, 8, 8, 3), np.float32)),
            "4D with shape (8, 8, 8, 3)",
            id="4D nifti",
        ),
        pytest.param(lambda d: save_itk(d / "a.nrrd", np.zeros((4, 5, 6, 7))), "4D", id="4D nrrd"),
        pytest.param(
            lambda d: save_nifti(d / "a.nii", np.zeros((8, 9, 10), RGB)), "colour", id="RGB nifti"
        ),
        pytest.param(
            lambda d: save_itk(d / "a.nrrd", np.zeros((5, 6, 7, 3), np.uint8), True),
            "colour volume of 7 x 6 x 5",
            id="RGB nrrd",
        ),
        pytest.param(
            lambda d: save_itk(d / "a.mha", np.zeros((5, 6, 7, 3)), True), "3 values", id="vectors"
        ),
        pytest.param(
            lambda d: save_nifti(d / "a.nii", NOISE.astype(np.complex64)), "complex", id="complex"
        ),
        pytest.param(
            lambda d: save_nifti(d / "a.nii", np.where(NOISE > 2.5, np.nan, NOISE)), "NaN", id="NaN"
        ),
        pytest.param(
            lambda d: save_nifti(d / "a.nii", np.where(NOISE > 2, -np.inf, NOISE)), "NaN", id="inf"
        ),
        pytest.param(
            lambda d: save_nifti(d / "a.nii", NOISE.astype(np.float64) * 1e300), "NaN", id="beyond"
        ),
        pytest.param(
            lambda d: save_nifti(d / "a.nii", NOISE, np.diag([1, 1, 0, 1])), "singular", id="flat"
        ),
        pytest.param(
            lambda d: save_nifti(
                d / "a.nii",
                NOISE,
                np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            ),
            "singular",
            id="no second axis",
        ),
        pytest.param(
            lambda d: save_nifti(d / "a.nii", np.zeros((3, 3, 40), np.float32)),
            "3 x 3 x 40",
            id="tiny",
        ),
        pytest.param(lambda d: save_series(d / "ct", []), "without DICOM", id="empty folder"),
        pytest.param(
            lambda d: save_series(d / "ct", [0, 3, 9, 12]), "3 to 6 mm apart", id="slice missing"
        ),
        pytest.param(
            lambda d: save_series(d / "ct", [0, 3, 3, 6]), "0 to 3 mm apart", id="slice doubled"
        ),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(make: Make, says, tmp_path):
    path = make(tmp_path)
    with pytest.raises(BadVolumeError) as refused:
        read_volume(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))


def test_a_header_cannot_claim_more_than_a_machine_can_hold(tmp_path):
    header = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).header
    header.set_data_shape((30000, 30000, 30000))
    path = write(tmp_path / "bomb.nii", header.binaryblock + bytes(1000))
    with pytest.raises(BadVolumeError, match="crop or resample"):
        read_volume(path)


@pytest.mark.parametrize(("header", "alone"), [(".mhd", ".mha"), (".nhdr", ".nrrd")])
def test_a_file_cannot_point_to_another_file(header, alone, tmp_path):
    detached = save_itk(tmp_path / f"scan{header}", NOISE)
    assert read_volume(detached).array.shape == (10, 9, 8)
    disguised = shutil.copy(detached, tmp_path / f"scan{alone}")
    with pytest.raises(BadVolumeError, match="another file"):
        read_volume(disguised)


def test_a_long_header_hides_no_other_file(tmp_path):
    detached = save_itk(tmp_path / "scan.nhdr", NOISE).read_text()
    magic, _, fields = detached.partition("\n")
    padding = "# nothing\n" * 10000
    path = write(tmp_path / "scan.nrrd", f"{magic}\n{padding}{fields}".encode())
    with pytest.raises(BadVolumeError, match="header"):
        read_volume(path)


def test_the_suffixes_that_an_error_names_are_those_that_are_read(tmp_path):
    with pytest.raises(BadVolumeError) as refused:
        read_volume(write(tmp_path / "a.doc", b"text"))
    assert all(suffix in str(refused.value) for suffix in SUFFIXES)


def test_nothing_is_written_to_the_terminal(tmp_path, capfd):
    path = half(save_dicom(tmp_path / "a.dcm"))
    with pytest.raises(BadVolumeError):
        read_volume(path)
    read_volume(save_series(tmp_path / "ct", [0, 3, 6]))
    assert capfd.readouterr() == ("", "")
