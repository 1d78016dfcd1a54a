"""A zipped DICOM series: unpacked without trusting a word of the archive.

Names in it decide nothing: its files are numbered. Knows nothing about voxels or stores.
"""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import SimpleITK as sitk  # noqa: N813

from bird_server.access.expansion import check_archive
from bird_server.volumes.store_errors import BadArchiveError, full_disk_told
from bird_vlm.errors import BadVolumeError
from bird_vlm.volume_files import is_dicom

MAX_UNPACKED_BYTES = 4 << 30
_INDEX = "DICOMDIR"  # a table of contents, not an image
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def unpack_series(archive: Path, folder: Path) -> None:
    """Writes the images of the one series in `archive` into `folder`, which must not exist.

    Files that are no DICOM images are left out. Raises BadArchiveError for what is no archive, is
    encrypted, unpacks to very much, names places outside itself, or holds no or several series;
    StoreFullError.
    """
    try:
        members = check_archive(archive, MAX_UNPACKED_BYTES)
        with zipfile.ZipFile(archive) as opened, full_disk_told():
            folder.mkdir()
            _unpack(opened, members, folder)
    except BadVolumeError as error:
        raise BadArchiveError(f"the archive {error}") from error
    except _BROKEN as error:
        raise BadArchiveError(
            f"the archive cannot be unpacked ({error}); zip the series again"
        ) from error
    _check_series(folder)


def _unpack(opened: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path) -> None:
    for number, member in enumerate(members):
        if PurePosixPath(member.filename).name.upper() == _INDEX:
            continue
        path = folder / f"{number:05d}.dcm"
        with opened.open(member) as packed, path.open("wb") as file:
            shutil.copyfileobj(packed, file)
        if not is_dicom(path):
            path.unlink()


def _check_series(folder: Path) -> None:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise BadArchiveError(
            f"the archive holds {len(series) or 'no'} DICOM series; zip the files of one series"
        )
