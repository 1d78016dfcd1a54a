"""The DICOM instances that a reviewed volume was read from: their headers, for references.

Knows nothing about reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bird_server.review.errors import ExportError
from bird_server.review.records import Case
from bird_vlm.errors import BadVolumeError
from bird_vlm.volume_files import LPS_TO_RAS
from bird_vlm.volumes import read_volume

if TYPE_CHECKING:
    from pydicom import Dataset

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime"),
)


def instances_of(source: Path | None, case: Case) -> list[Dataset]:
    """Headers of the series at `source` (a folder or a file), which must be `case`'s volume.

    Raises ExportError where there is no source, it holds another volume or no usable headers.
    """
    if source is None:
        raise ExportError(
            f"source: {case.name} did not come as DICOM, and a DICOM report must refer to DICOM "
            "images; upload the original series and review that, or export another format"
        )
    _check_volume(source, case)
    headers = _headers(source)
    series: dict[str, list[Dataset]] = {}
    for header in headers:
        series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    fitting = [found for found in series.values() if _lies_where(found, case)]
    if len(fitting) != 1:
        raise ExportError(
            f"source: {len(fitting)} of {len(series)} DICOM series lie where {case.name} lies; "
            "give the folder of that series alone, with a position in each header"
        )
    return [_complete(header) for header in fitting[0]]


def crossing(instances: Sequence[Dataset], corners_lps: np.ndarray) -> list[Dataset]:
    """The instances whose plane meets a box with these corners (n, 3); at least the nearest.

    Multi-frame images, which carry no plane of their own, are all taken.
    """
    if any("ImagePositionPatient" not in header for header in instances):
        return list(instances)
    x, y = np.reshape(instances[0].ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(x, y)
    heights = np.array([header.ImagePositionPatient for header in instances], dtype=float) @ normal
    span = corners_lps @ normal
    away = np.maximum(span.min() - heights, heights - span.max())
    return [h for h, d in zip(instances, away, strict=True) if d <= max(0.0, away.min())]


def _check_volume(source: Path, case: Case) -> None:
    try:
        volume = read_volume(source)
    except BadVolumeError as error:
        raise ExportError(f"source: {str(error).replace(str(source), case.name)}") from error
    if volume.digest != case.volume_digest:
        raise ExportError(
            f"source: is not the volume that was reviewed as {case.name}; the report would point "
            "at the wrong images"
        )


def _headers(source: Path) -> list[Dataset]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    headers = []
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if not path.is_file():
            continue
        try:
            headers.append(dcmread(path, stop_before_pixels=True))
        except InvalidDicomError:
            continue  # a note or a DICOMDIR-less companion file
    return headers


def _lies_where(headers: Sequence[Dataset], case: Case) -> bool:
    """Whether these are the slices of the case, within half a slice, or one multi-frame image."""
    if len(headers) == 1 and "ImagePositionPatient" not in headers[0]:
        return True
    if any("ImagePositionPatient" not in header for header in headers):
        return False
    ijk_to_ras = np.array(case.geometry.ijk_to_ras)
    count = len(headers)
    if count != case.geometry.shape_ijk[2]:
        return False
    firsts_ijk = np.c_[np.zeros((count, 2)), np.arange(count), np.ones(count)]
    expected = np.sort((firsts_ijk @ (LPS_TO_RAS @ ijk_to_ras).T)[:, :3], axis=0)
    found = np.sort(np.array([h.ImagePositionPatient for h in headers], dtype=float), axis=0)
    half_a_slice_mm = np.linalg.norm(ijk_to_ras[:3, 2]) / 2
    return bool(np.abs(expected - found).max() <= half_a_slice_mm)


def _complete(header: Dataset) -> Dataset:
    """The header with what DICOM lets be empty; raises ExportError for what it does not."""
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    for keyword, meta in (
        ("SOPClassUID", "MediaStorageSOPClassUID"),
        ("SOPInstanceUID", "MediaStorageSOPInstanceUID"),
    ):
        if not header.get(keyword) and header.file_meta.get(meta):
            setattr(header, keyword, header.file_meta.get(meta))
    missing = [k for k in (*_NEEDED, "SOPClassUID", "SOPInstanceUID") if not header.get(k)]
    if missing:
        raise ExportError(
            f"source: its DICOM headers lack {', '.join(missing)}, so nothing can refer to them; "
            "send the series as the scanner or the archive wrote it"
        )
    return header
