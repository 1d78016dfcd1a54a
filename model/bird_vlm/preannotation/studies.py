"""The scans of a folder: which files are cases, and why the others are not.

Looks at names, links and DICOM headers; opens no voxels. Knows nothing about models.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bird_vlm.errors import BirdError
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.dicom_folders import Series, series_of
from bird_vlm.preannotation.layout import OURS, is_ours
from bird_vlm.volume_files import SUFFIXES, is_dicom

_PICTURES = (".png", ".jpg", ".jpeg")
_WITH_VOXELS_ELSEWHERE = (".mhd", ".nhdr")
_LABEL_MAP = re.compile(r"(?P<scan>.+?)[-_. ](labels?|labelmap|seg|segmentation|mask)", re.I)
_SEGMENTATION = (".seg.nrrd", ".seg.nhdr")  # as Slicer names them
_MONAI_LABEL_STORE = "datastore_v2.json"  # beside the folder with its labels
_NO_SCANS = {"SEG": "a DICOM segmentation", "RTDOSE": "a DICOM dose map"}
_HEADER_BYTES = 65536


@dataclass(frozen=True)
class Skipped:
    """What lies among the scans and is not asked about."""

    name: str  # relative to the studies folder
    reason: str
    about: str = ""  # what the reason speaks of

    @property
    def told(self) -> str:
        return f"{self.reason} ({self.about})" if self.about else self.reason


class Studies:
    """A folder of scans as it is now. Raises BirdError for anything else."""

    def __init__(self, root: Path, out: Path) -> None:
        if not root.is_dir():
            raise BirdError(f"studies: {root} is no folder; give the one that holds the scans")
        if is_ours(root):
            raise BirdError(f"studies: {root} holds results of a run; give the folder of scans")
        self.root, self.out = root.resolve(), out.resolve()
        self.skipped: list[Skipped] = []
        self.cases = sorted(self._walk(), key=lambda case: (case.name, case.folder))
        self.skipped.sort(key=lambda skipped: skipped.name)

    def _walk(self) -> Iterator[Case]:
        for place, folders, names in os.walk(self.root, onerror=self._unreadable):
            folder = Path(place)
            folders[:] = [name for name in sorted(folders) if self._enters(folder / name)]
            files = [folder / name for name in sorted(names) if self._takes(folder / name)]
            yield from self._cases(folder, files)

    def _cases(self, folder: Path, files: list[Path]) -> Iterator[Case]:
        scans = [path for path in files if suffix_of(path)]
        others = [path for path in files if path not in set(scans)]
        dicom = [path for path in scans if suffix_of(path) == ".dcm"]
        dicom += [path for path in others if self._is_dicom(path)]
        yield from self._series(folder, dicom)
        voxels: set[Path] = set()
        for path in (path for path in scans if suffix_of(path) != ".dcm"):
            reason, about = _label_or_preview(path, scans)
            if reason:
                self._skip(path, reason, about)
                continue
            parts = _parts(path, others)
            voxels.update(parts)
            yield Case(self._place(path), (path, *parts))
        for path in others:
            if path not in voxels and path not in dicom:
                self._skip(path, "not a scan or a picture")

    def _series(self, folder: Path, dicom: list[Path]) -> Iterator[Case]:
        """A case per series; a series of one file goes by that file's name."""
        left = set(dicom)
        found = series_of(folder) if dicom else []
        several = [series for series in found if len(series.files) > 1]
        names = _told_apart(several)
        for series in found:
            files = tuple(path for path in series.files if path in left)
            left.difference_update(files)
            if reason := _NO_SCANS.get(series.modality):
                for path in files:
                    self._skip(path, reason)
            elif len(files) == 1:
                yield Case(self._place(files[0]), files, note=series.note)
            elif files:
                yield Case(self._place(folder), files, True, names[series.uid], series.note)
        for path in sorted(left):
            self._skip(path, "DICOM without a picture that can be read")

    def _enters(self, folder: Path) -> bool:
        """Whether to look into a folder."""
        if folder.name == OURS or folder.resolve() == self.out:
            return False
        if folder.is_symlink():
            reason = "a link to a folder; links are not followed"
        elif folder.name.startswith("."):
            reason = "a hidden folder"
        elif is_ours(folder):
            reason = "results of an earlier run"
        elif folder.name == "labels" and (folder.parent / _MONAI_LABEL_STORE).is_file():
            reason = "labels that were saved by MONAI Label"
        else:
            return True
        self._skip(folder, reason)
        return False

    def _takes(self, path: Path) -> bool:
        """Whether to look at a file."""
        about = ""
        if path.name.startswith("."):
            reason = "a hidden file"
        elif path.is_symlink():
            reason, about = self._of_a_link(path)
        elif not path.is_file():
            reason = "not a file (a device, pipe or socket)"
        elif path.name.upper() == "DICOMDIR":
            reason = "the index of a DICOM medium"
        else:
            return True
        if reason:
            self._skip(path, reason, about)
        return not reason

    def _of_a_link(self, path: Path) -> tuple[str, str]:
        """Why a link is not taken; "" where it leads to a hidden file, as data managers do it."""
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # to nowhere, or in a circle
            return "a link to nothing", ""
        if not target.is_relative_to(self.root):
            return "a link that leads out of the folder", ""
        if not target.is_file():
            return "a link to no file", ""
        within = target.relative_to(self.root)
        hidden = any(part.startswith(".") for part in within.parts)
        return ("", "") if hidden else ("a link to another file here", _as_text(within.as_posix()))

    def _is_dicom(self, path: Path) -> bool:
        try:
            return is_dicom(path)
        except OSError:
            return False

    def _place(self, path: Path) -> str:
        within = path.relative_to(self.root).as_posix()
        return self.root.name if within == "." else within

    def _skip(self, path: Path, reason: str, about: str = "") -> None:
        self.skipped.append(Skipped(_as_text(self._place(path)), reason, about))

    def _unreadable(self, error: OSError) -> None:
        self._skip(Path(error.filename), f"cannot be opened ({error.strerror})")


def suffix_of(path: Path) -> str:
    """The one of a scan or picture, "" for anything else.

    >>> suffix_of(Path("ct.NII.gz")), suffix_of(Path("notes.txt"))
    ('.nii.gz', '')
    """
    name = path.name.lower()
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len, default="")


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(suffix_of(path))]


def _label_or_preview(path: Path, scans: list[Path]) -> tuple[str, str]:
    """Why a file beside others is no scan of its own, and of which it is; "" where it is one."""
    if path.name.lower().endswith(_SEGMENTATION):
        return "a segmentation", ""
    stem = _stem(path)
    named = _LABEL_MAP.fullmatch(stem)
    if named and any(_stem(scan) == named["scan"] for scan in scans):
        return "by its name labels of a scan beside it", _as_text(named["scan"])
    if suffix_of(path) in _PICTURES:
        for scan in scans:
            if _stem(scan) == stem and suffix_of(scan) not in _PICTURES:
                return "by its name a picture of a scan beside it", _as_text(scan.name)
    return "", ""


def _parts(path: Path, others: list[Path]) -> list[Path]:
    """The neighbours that hold the voxels of a header."""
    if suffix_of(path) not in _WITH_VOXELS_ELSEWHERE:
        return []
    try:
        with path.open("rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except OSError:  # reading the case tells of it
        return []
    return [other for other in others if os.fsencode(other.name) in header]


def _told_apart(several: list[Series]) -> dict[str, str]:
    """A short name for each series of a folder: none where it is alone, else its number."""
    if len(several) == 1:
        return {several[0].uid: ""}
    numbers = [series.number for series in several]
    return {
        series.uid: series.number
        if series.number and numbers.count(series.number) == 1
        else ".".join(filter(None, (series.number, series.uid)))
        for series in several
    }


def _as_text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
