"""DICOM segmentations: which there are in a folder, of which scan, and what they hold.

Needs pydicom-seg. Knows nothing about slices or boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from bird_training.sources.reading import Skipped
from bird_vlm.errors import BirdError
from bird_vlm.labels import natural_name
from bird_vlm.volume_files import is_dicom
from bird_vlm.volumes import Volume, read_volume

if TYPE_CHECKING:
    import pydicom
    import SimpleITK as sitk  # noqa: N813

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"  # SOP class
_MODALITIES = {"CT": "ct", "MR": "mr", "PT": "pet", "US": "ultrasound"}
_NO_NAME = re.compile(r"segment[\s_]*\d*", re.IGNORECASE)
_HEADER = ["SOPClassUID", "Modality", "PatientID", "SeriesInstanceUID", "ReferencedSeriesSequence"]

_SAME_MM = 0.01  # between frames, below which they lie on one slice

Found = tuple[Path, Path, str, str]  # folder of the series, segmentation, modality, patient
Layer = tuple[Volume, dict[int, str]]  # label map, natural names by value


def holds_segmentations(folder: Path) -> bool:
    """Whether there is a DICOM segmentation anywhere in a folder."""
    return find_spec("pydicom") is not None and any(
        header.SOPClassUID == _SEGMENTATION for _, header in _headers(folder)
    )


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation."""
    if not path.is_file() or not is_dicom(path):
        return False
    return _header(path).get("SOPClassUID") == _SEGMENTATION


def find_segmentations(folder: Path) -> Iterator[Found | Skipped]:
    """Each segmentation below `folder` with the series that it refers to, by file name."""
    series: dict[str, tuple[Path, str]] = {}
    segmentations = []
    for path, header in _headers(folder):
        if header.SOPClassUID == _SEGMENTATION:
            segmentations.append((path, header))
        else:
            series.setdefault(header.get("SeriesInstanceUID", ""), (path.parent, header.Modality))
    for path, header in segmentations:
        name = path.relative_to(folder).as_posix()
        referenced = [item.SeriesInstanceUID for item in header.get("ReferencedSeriesSequence", ())]
        image = next((series[uid] for uid in referenced if uid in series), None)
        if image is None:
            yield Skipped(name, "the series it refers to is not in the folder")
        elif image[1] not in _MODALITIES:
            yield Skipped(name, f"its series has the modality {image[1]}, which is none of ours")
        elif [place for place, _ in series.values()].count(image[0]) > 1:
            yield Skipped(name, f"{image[0]} holds several series; give each its own folder")
        else:
            patient = str(header.get("PatientID") or path.parent.name)
            yield image[0], path, _MODALITIES[image[1]], patient


def read_segmentation(path: Path) -> Iterator[Layer]:
    """The segments as label maps: one where they do not overlap, otherwise one per segment.

    Raises BirdError where the file is none, or pydicom-seg is missing.
    """
    if find_spec("pydicom_seg") is None:
        raise BirdError(f"{path}: DICOM segmentations need pydicom-seg: pip install pydicom-seg")
    import pydicom
    import pydicom_seg

    try:
        dataset = pydicom.dcmread(path)
        _declare_true_spacing(dataset)
        names = {item.SegmentNumber: _name(item) for item in dataset.SegmentSequence}
        yield from _layers(dataset, names, pydicom_seg)
    except (pydicom.errors.InvalidDicomError, AttributeError, KeyError, ValueError) as error:
        if isinstance(error, BirdError):
            raise
        raise BirdError(f"{path}: cannot be read as a segmentation ({error})") from error


def _layers(dataset: pydicom.Dataset, names: dict[int, str], pydicom_seg) -> Iterator[Layer]:
    # The reader for many classes refuses overlaps only where the file admits them or is silent.
    overlap = dataset.get("SegmentsOverlap", "UNDEFINED")
    try:
        if overlap == "YES":
            raise ValueError("overlapping segments")
        image = pydicom_seg.MultiClassReader().read(dataset).image
    except ValueError:
        result = pydicom_seg.SegmentReader().read(dataset)
        for number in sorted(result.available_segments):
            yield _volume(result.segment_image(number) > 0), {1: names[number]}
    else:
        yield _volume(image), names


def _declare_true_spacing(dataset: pydicom.Dataset) -> None:
    """Writers often declare the slices' thickness as their distance; frames would be misplaced."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    rows, columns = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
    positions = [
        frame.PlanePositionSequence[0].ImagePositionPatient
        for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    heights = np.sort(np.array(positions, float) @ np.cross(rows, columns).astype(float))
    steps = np.diff(heights)
    if (steps > _SAME_MM).any():
        shared.PixelMeasuresSequence[0].SpacingBetweenSlices = float(steps[steps > _SAME_MM].min())


def _volume(image: sitk.Image) -> Volume:
    """Through a file, so that the libraries turn LPS into RAS."""
    import SimpleITK as sitk  # noqa: N813

    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels.nii.gz"
        sitk.WriteImage(image, str(path))
        return read_volume(path)


def _name(segment: pydicom.Dataset) -> str:
    """The segment's label; its coded type, with the side, where the label says nothing."""
    label = str(segment.get("SegmentLabel", ""))
    if label.strip() and not _NO_NAME.fullmatch(label.strip()):
        return natural_name(label)
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    sides = kind.get("SegmentedPropertyTypeModifierCodeSequence", ())
    return natural_name(" ".join([*(str(s.CodeMeaning) for s in sides), str(kind.CodeMeaning)]))


def _headers(folder: Path) -> Iterator[tuple[Path, pydicom.Dataset]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if is_dicom(path):
            header = _header(path)
            if "SOPClassUID" in header:
                yield path, header


def _header(path: Path) -> pydicom.Dataset:
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError):
        return pydicom.Dataset()
