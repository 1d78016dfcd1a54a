"""A synthetic PET series whose SUV is known with pencil and paper."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

SHAPE = (6, 5)  # rows, columns
SLOPES = (0.5, 1.25, 4.0)  # of the three slices: scanners scale each slice on its own
STORED = 2000
WEIGHT_KG, DOSE_BQ, HALF_LIFE_S = 75.0, 300e6, 6586.2
INJECTION = datetime(2020, 3, 2, 10, 0, 0)
SCAN = INJECTION + timedelta(seconds=HALF_LIFE_S / 2)  # sqrt(1/2) of the dose is left
# 75,000 g / (300 MBq * sqrt(1/2)) per Bq/ml
FACTOR = 75_000 / (300e6 * 0.5**0.5)

Change = Callable[[Dataset], None]


def a_slice(index: int, series_uid: str, slope: float) -> Dataset:
    header = Dataset()
    header.SOPClassUID = PositronEmissionTomographyImageStorage
    header.SOPInstanceUID = generate_uid()
    header.StudyInstanceUID = header.FrameOfReferenceUID = series_uid
    header.SeriesInstanceUID = series_uid
    header.Modality, header.Units, header.DecayCorrection = "PT", "BQML", "START"
    header.CorrectedImage = ["DECY", "ATTN", "SCAT"]
    header.PatientWeight = WEIGHT_KG
    header.SeriesDate, header.SeriesTime = f"{SCAN:%Y%m%d}", f"{SCAN:%H%M%S.%f}"
    header.AcquisitionDate, header.AcquisitionTime = header.SeriesDate, header.SeriesTime
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = DOSE_BQ, HALF_LIFE_S
    drug.RadiopharmaceuticalStartTime = f"{INJECTION:%H%M%S}"
    header.RadiopharmaceuticalInformationSequence = Sequence([drug])
    header.Rows, header.Columns = SHAPE
    header.PixelSpacing, header.SliceThickness = [4.0, 4.0], 3.0
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = [0, 0, 3.0 * index]
    header.InstanceNumber = index + 1
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.RescaleSlope, header.RescaleIntercept = slope, 0
    header.PixelData = np.full(SHAPE, STORED, np.uint16).tobytes()
    return header


def write_series(
    folder: Path, change: Change = lambda header: None, slopes: tuple[float, ...] = SLOPES
) -> Path:
    folder.mkdir(exist_ok=True)
    series_uid = generate_uid()
    for index, slope in enumerate(slopes):
        header = a_slice(index, series_uid, slope)
        change(header)
        header.file_meta = FileMetaDataset()
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.is_little_endian, header.is_implicit_VR = True, False
        pydicom.dcmwrite(
            folder / f"{series_uid[-8:]}_{index}.dcm", header, write_like_original=False
        )
    return folder
