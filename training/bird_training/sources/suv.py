"""PET in body-weight SUV, from what the scanner wrote into its DICOM files.

    SUV = activity in the voxel (Bq/ml) * body weight (g) / dose left when the scan began (Bq)

Follows the vendor-neutral rules of the QIBA FDG-PET profile. Dimensions: weight kg, dose Bq,
half-life s. Knows nothing about windows, slices or lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.valuerep import DA, DT, TM

from bird_vlm.errors import BadVolumeError
from bird_vlm.volumes import Volume, read_volume

_PHARMACEUTICAL = "RadiopharmaceuticalInformationSequence"
_MIN_DOSE_BQ = 1e5  # less is no injection but another unit
_PHILIPS, _GE = (0x7053, "Philips PET Private Group"), (0x0009, "GEMS_PETD_01")
_PHILIPS_SUV, _PHILIPS_ACTIVITY, _GE_SCAN = 0x00, 0x09, 0x0D

Header = pydicom.Dataset


def read_suv_volume(path: str | Path) -> Volume:
    """The volume of a PET series, the folder of its DICOM files, in body-weight SUV.

    Raises BadVolumeError, with the path and the tag, where the files lack what SUV needs, are no
    PET, or are of several series.
    """
    path = Path(path)
    volume = read_volume(path)
    try:
        factor = suv_factor(_headers(path))
    except BadVolumeError as error:
        raise BadVolumeError(f"{path}: {error}") from error
    return Volume((volume.array * factor).astype(np.float32), volume.ijk_to_ras)


def suv_factor(headers: Sequence[Header]) -> float:
    """What the rescaled values of a series are multiplied with; `headers` are its files'.

    Raises BadVolumeError that names the tag, where one is missing or says something that has no
    body-weight SUV.
    """
    factors = [_factor(header, headers) for header in headers]
    if max(factors) - min(factors) > 1e-4 * max(factors):
        raise BadVolumeError("has slices with different SUV factors; convert it slice by slice")
    return factors[0]


def _factor(header: Header, series: Sequence[Header]) -> float:
    _check_corrections(header)
    units = str(_value(header, "Units"))
    if units == "GML":
        return _already_suv(header)
    if units == "CNTS":
        return _philips_factor(header, series)
    if units != "BQML":
        raise _refusal("Units", f"is {units}; body-weight SUV is known for BQML, GML and CNTS")
    return _factor_of_activity(header, series)


def _check_corrections(header: Header) -> None:
    modality = _value(header, "Modality")
    if modality != "PT":
        raise _refusal("Modality", f"is {modality}, not PT; give a PET series")
    corrected = _value(header, "CorrectedImage")
    done = {corrected} if isinstance(corrected, str) else set(corrected)
    if lacking := {"ATTN", "DECY"} - done:
        names = " and ".join(sorted(lacking))
        raise _refusal("CorrectedImage", f"lacks {names}; take the corrected series")


def _already_suv(header: Header) -> float:
    kind = str(header.get("SUVType") or "BW")
    if kind != "BW":
        raise _refusal("SUVType", f"is {kind}; these values are SUV by another measure than weight")
    return 1.0


def _philips_factor(header: Header, series: Sequence[Header]) -> float:
    suv = _private(header, _PHILIPS, _PHILIPS_SUV)
    if suv:
        return float(suv)
    activity = _private(header, _PHILIPS, _PHILIPS_ACTIVITY)
    if not activity:
        raise _refusal(
            "Units", "is CNTS, and Philips' private factors (7053,xx00) and (7053,xx09) are missing"
        )
    return float(activity) * _factor_of_activity(header, series)


def _factor_of_activity(header: Header, series: Sequence[Header]) -> float:
    """For values in Bq/ml."""
    weight_g = 1000 * _positive(header, "PatientWeight")
    drug = _pharmaceutical(header)
    dose = _positive(drug, "RadionuclideTotalDose")
    if dose < _MIN_DOSE_BQ:
        raise _refusal("RadionuclideTotalDose", f"is {dose:g}; it must be in Bq, not MBq or mCi")
    half_life_s = _positive(drug, "RadionuclideHalfLife")
    return weight_g / (dose * 0.5 ** (_decay_s(header, series, drug, half_life_s) / half_life_s))


def _decay_s(header: Header, series: Sequence[Header], drug: Header, half_life_s: float) -> float:
    """From injection to the moment that the values are corrected to, seconds."""
    corrected_to = _value(header, "DecayCorrection")
    if corrected_to == "ADMIN":
        return 0.0
    if corrected_to != "START":
        raise _refusal("DecayCorrection", f"is {corrected_to}; START or ADMIN is needed")
    scan = _scan_start(series, half_life_s)
    seconds = (scan - _injection(drug, scan)).total_seconds()
    if seconds < 0:
        raise _refusal("RadiopharmaceuticalStartDateTime", f"lies after the scan's start, {scan}")
    return seconds


def _injection(drug: Header, scan: datetime) -> datetime:
    told = drug.get("RadiopharmaceuticalStartDateTime")
    if told:
        return _moment(told)
    time = TM(_value(drug, "RadiopharmaceuticalStartTime"))
    injection = datetime.combine(scan.date(), time)
    return injection if injection <= scan else injection - timedelta(days=1)  # past midnight


def _scan_start(series: Sequence[Header], half_life_s: float) -> datetime:
    """When the scan began, to which the values are corrected.

    The series' own time, unless a later processing wrote that one: then what GE tells apart, or
    from the place of a frame's mean count rate in it.
    """
    begun = _date_time(series[0], "Series")
    if begun <= min(_date_time(header, "Acquisition") for header in series):
        return begun
    ge = _private(series[0], _GE, _GE_SCAN)
    if ge:
        return _moment(ge)
    return min(_scan_start_of_frame(header, half_life_s) for header in series)


def _scan_start_of_frame(header: Header, half_life_s: float) -> datetime:
    reference_s = _positive(header, "FrameReferenceTime") / 1000
    decays = np.log(2) / half_life_s * _positive(header, "ActualFrameDuration") / 1000
    mean_rate_s = half_life_s / np.log(2) * np.log(decays / -np.expm1(-decays))
    return _date_time(header, "Acquisition") + timedelta(seconds=mean_rate_s - reference_s)


def _date_time(header: Header, of: str) -> datetime:
    return datetime.combine(DA(_value(header, f"{of}Date")), TM(_value(header, f"{of}Time")))


def _moment(text: Any) -> datetime:
    text = text.decode("ascii") if isinstance(text, bytes) else str(text)
    return datetime.combine(DT(text).date(), DT(text).time())  # in the scanner's own zone


def _pharmaceutical(header: Header) -> Header:
    items = _value(header, _PHARMACEUTICAL)
    if len(items) > 1:
        raise _refusal(_PHARMACEUTICAL, f"tells of {len(items)} injections; one is needed")
    return items[0]


def _positive(header: Header, keyword: str) -> float:
    value = float(_value(header, keyword))
    if not value > 0:
        raise _refusal(keyword, f"must be above 0, got {value:g}")
    return value


def _value(header: Header, keyword: str) -> Any:
    value = header.get(keyword)
    if value is None or (hasattr(value, "__len__") and not len(value)):
        raise _refusal(keyword, "is missing; body-weight SUV cannot be told without it")
    return value


def _private(header: Header, block: tuple[int, str], element: int) -> Any:
    group, creator = block
    try:
        return header.private_block(group, creator)[element].value
    except KeyError:
        return None


def _refusal(keyword: str, what: str) -> BadVolumeError:
    return BadVolumeError(f"{keyword} {Tag(tag_for_keyword(keyword))}: {what}")


def _headers(path: Path) -> list[Header]:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    headers = []
    for file in files:
        try:
            headers.append(pydicom.dcmread(file, stop_before_pixels=True))
        except InvalidDicomError:
            continue  # a folder of DICOM may hold other files
    series = {str(header.get("SeriesInstanceUID")) for header in headers}
    if len(series) != 1:
        raise BadVolumeError(f"holds {len(series)} DICOM series; SUV needs the folder of one")
    return headers
