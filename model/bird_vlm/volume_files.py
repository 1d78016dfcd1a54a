"""File formats: each reader takes a path to an array (I, J, K[, 3]) and its ijk_to_ras.

Turns what the libraries raise into BadVolumeError without the path, which the caller adds. Does
not judge the values. LPS files (DICOM, NRRD, MetaImage) come back in RAS.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from nibabel.spatialimages import HeaderDataError
from PIL import Image

from bird_vlm.errors import BadVolumeError

MAX_VOXELS = 2**30
LPS_TO_RAS = inv_ornt_aff(axcodes2ornt("LPS"), (1, 1, 1))  # 4x4
_DICOM_MAGIC = slice(128, 132)
_HEADER_BYTES = 65536  # enough for the text header of any NRRD or MetaImage
_NRRD_DATA_FILE = re.compile(rb"^data ?file\s*:\s*(?P<file>.*)", re.IGNORECASE | re.MULTILINE)
_META_DATA_FILE = re.compile(
    rb"^\s*ElementDataFile\s*[=:][ \t]*(?P<file>[^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_POSITION = "0020|0032"  # Image Position (Patient)
_MAX_UNEVEN = 0.5  # of the usual distance between slices
_ITK_NOISE = re.compile(
    r"Exception thrown in SimpleITK \w+:|\S+\.(cxx|hxx|h):\d+:|"
    r"s?itk::ERROR:|ITK ERROR:|\w+\(0x\w+\):"
)
_MAX_REASON = 160  # characters of a library's message, its end

Read = tuple[np.ndarray, np.ndarray]
logger = logging.getLogger(__name__)
sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK writes its warnings to the terminal


def read_nifti(path: Path) -> Read:
    """NIfTI, by its sform or qform."""
    with _refused(ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError):
        image = nibabel.load(path)
        shape = _shape_3d(image.shape)
        values = np.asanyarray(image.dataobj)
    if values.dtype.fields:
        values = np.stack([values[name] for name in ("R", "G", "B")], axis=-1)
        return values.reshape(*shape, 3), image.affine
    if values.dtype.kind == "c":
        raise BadVolumeError("holds complex numbers; save the magnitude instead")
    return values.reshape(shape), image.affine


def read_picture(path: Path) -> Read:
    """PNG or JPEG: I to the picture's right, J downwards; grey stays grey."""
    broken = (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError)
    with _refused(*broken), Image.open(path) as image:
        _shape_3d(image.size)
        values = np.asarray(_plain(image))
    return values.swapaxes(0, 1)[:, :, None], LPS_TO_RAS


def read_nrrd_or_meta(path: Path) -> Read:
    """NRRD or MetaImage; a header may name its data only where its suffix says so."""
    suffix = path.suffix.lower()
    if suffix in (".nrrd", ".mha"):
        _refuse_detached_data(path)
    return _read_itk(path, "NrrdImageIO" if suffix in (".nrrd", ".nhdr") else "MetaImageIO")


def read_dicom_file(path: Path) -> Read:
    """One DICOM file: a picture, or a volume where it is multi-frame."""
    return _read_itk(path, "GDCMImageIO")


def read_dicom_folder(path: Path) -> Read:
    """The series with most files in a folder or below; the others are logged."""
    series = _dicom_series(path)
    if not series:
        raise BadVolumeError("is a folder without DICOM images; give the folder of one series")
    (name, files), *others = sorted(series.items(), key=lambda item: -len(item[1]))
    if others:
        logger.warning(
            "%s: holds %d DICOM series; reads the largest, %s (%d files)",
            *(path, len(series), name, len(files)),
        )
    if len(files) == 1:
        return read_dicom_file(Path(files[0]))
    channels = _check_information(Path(files[0]), "GDCMImageIO", slices=len(files))
    reader = sitk.ImageSeriesReader()
    if channels == 1:  # else the first slice's rescale slope decides the number type of all
        reader.SetOutputPixelType(sitk.sitkFloat32)
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    with _refused(RuntimeError):
        image = reader.Execute()
    _check_steps([reader.GetMetaData(i, _POSITION) for i in range(len(files))])
    return _from_itk(image)


def is_dicom(path: Path) -> bool:
    """Whether a file without a telling suffix carries DICOM's mark."""
    with path.open("rb") as stream:
        return stream.read(_DICOM_MAGIC.stop)[_DICOM_MAGIC] == b"DICM"


READERS: dict[str, Callable[[Path], Read]] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".nrrd": read_nrrd_or_meta,
    ".nhdr": read_nrrd_or_meta,
    ".mha": read_nrrd_or_meta,
    ".mhd": read_nrrd_or_meta,
    ".dcm": read_dicom_file,
    ".png": read_picture,
    ".jpg": read_picture,
    ".jpeg": read_picture,
}
SUFFIXES = tuple(READERS)


@contextmanager
def _refused(*errors: type[Exception]) -> Iterator[None]:
    """What a library raises for a bad file, as one line that says so."""
    try:
        yield
    except BadVolumeError:
        raise
    except errors as error:
        reason = " ".join(_ITK_NOISE.sub(" ", str(error)).split()) or type(error).__name__
        reason = reason[-_MAX_REASON:]
        raise BadVolumeError(f"cannot be read ({reason}); export or copy it again") from error


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    deep_grey = image.mode in ("I", "F") or image.mode.startswith("I;16")
    return image if deep_grey else image.convert("RGB")


def _shape_3d(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """`shape` with trailing ones dropped or added to make three."""
    shape = tuple(map(int, shape))
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise BadVolumeError(
            f"is {len(shape)}D with shape {shape}; extract one 3D volume from it first"
        )
    if not all(shape):
        raise BadVolumeError(f"has no voxels, its shape is {shape}; export the file again")
    if np.prod(shape, dtype=float) > MAX_VOXELS:
        raise BadVolumeError(
            f"has shape {shape}, more than {MAX_VOXELS} voxels; crop or resample it first"
        )
    return shape + (1,) * (3 - len(shape))


def _refuse_detached_data(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    if head.startswith(b"NRRD"):
        header, blank, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
        detached = _NRRD_DATA_FILE.search(header)
        known = bool(blank)
    else:
        detached = _META_DATA_FILE.search(head)
        known = detached is not None
        detached = detached if known and detached["file"].upper() != b"LOCAL" else None
    if detached:
        raise BadVolumeError(
            f"keeps its voxels in another file ({detached['file'].decode(errors='replace')}); "
            "save header and voxels in one file"
        )
    if not known:
        raise BadVolumeError("cannot be read (its header has no end); export or copy it again")


def _dicom_series(folder: Path) -> dict[str, tuple[str, ...]]:
    """Series UID with details -> files in slice order, for all folders from `folder` down."""
    series = {}
    for place in (folder, *sorted(p for p in folder.rglob("*") if p.is_dir())):
        for name in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place), useSeriesDetails=True):
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(
                str(place), name, useSeriesDetails=True
            )
            series[f"{place.name}/{name}"] = files
    return series


def _read_itk(path: Path, image_io: str) -> Read:
    _check_information(path, image_io)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    with _refused(RuntimeError):
        return _from_itk(reader.Execute())


def _check_information(path: Path, image_io: str, slices: int = 1) -> int:
    """Refuse what is too large or has too many dimensions before its voxels are read.

    Returns the number of channels.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    with _refused(RuntimeError):
        reader.ReadImageInformation()
    size = reader.GetSize()
    _shape_3d((*size[:2], size[2] * slices, *size[3:]) if len(size) > 2 else size)
    return reader.GetNumberOfComponents()


def _check_steps(positions: list[str]) -> None:
    """Refuse a series whose slices do not lie evenly: ITK would spread them over the gap."""
    points = np.array([list(map(float, position.split("\\"))) for position in positions])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    usual = np.median(steps)
    if (abs(steps - usual) > _MAX_UNEVEN * usual).any():
        raise BadVolumeError(
            f"has slices {steps.min():g} to {steps.max():g} mm apart, so one is missing or doubled;"
            " complete the series or resample it"
        )


def _from_itk(image: sitk.Image) -> Read:
    while image.GetDimension() > 3:
        image = image[..., 0]
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    values = sitk.GetArrayFromImage(image)  # (K, J, I[, channels])
    channels = image.GetNumberOfComponentsPerPixel()
    values = values.swapaxes(0, 2)
    if channels > 1:
        values = _colour(values)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return values, LPS_TO_RAS @ matrix


def _colour(values: np.ndarray) -> np.ndarray:
    if values.dtype != np.uint8 or values.shape[3] not in (3, 4):
        raise BadVolumeError(
            f"has {values.shape[3]} values of type {values.dtype} per voxel; "
            "save one grey value per voxel"
        )
    return values[..., :3]
