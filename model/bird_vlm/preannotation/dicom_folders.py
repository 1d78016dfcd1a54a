"""The DICOM series of one folder, told apart by their headers.

Knows nothing about voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

_NUMBER, _DESCRIPTION, _MODALITY = "0020|0011", "0008|103e", "0008|0060"


@dataclass(frozen=True)
class Series:
    """Files in slice order, and what the first of them says."""

    files: tuple[Path, ...]
    uid: str
    number: str = ""
    description: str = ""
    modality: str = ""

    @property
    def note(self) -> str:
        """
        >>> Series((), "1.2", "3", "T1 axial", "MR").note
        'MR, series 3, T1 axial'
        """
        number = f"series {self.number}" if self.number else ""
        return ", ".join(filter(None, (self.modality, number, self.description)))


def series_of(folder: Path) -> list[Series]:
    """All series that lie in `folder` itself, in the order of their numbers."""
    found = []
    for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder), useSeriesDetails=True):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(
            str(folder), uid, useSeriesDetails=True
        )
        if names:
            found.append(_described(tuple(map(Path, names)), uid))
    return sorted(found, key=lambda series: (_as_number(series.number), series.uid))


def _described(files: tuple[Path, ...], uid: str) -> Series:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(files[0]))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # a damaged file, of which reading the case tells more
        return Series(files, uid)
    told = set(reader.GetMetaDataKeys())
    number, description, modality = (
        " ".join(reader.GetMetaData(key).split()) if key in told else ""
        for key in (_NUMBER, _DESCRIPTION, _MODALITY)
    )
    return Series(files, uid, number, description, modality)


def _as_number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (-1, text)
