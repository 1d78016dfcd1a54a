"""SUV of synthetic PET files whose answer is known with pencil and paper."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from pydicom.dataset import Dataset

from bird_training.sources.suv import read_suv_volume
from bird_vlm.errors import BadVolumeError
from pet_world import (
    FACTOR,
    HALF_LIFE_S,
    INJECTION,
    SCAN,
    SHAPE,
    SLOPES,
    STORED,
    Change,
    write_series,
)


def drug_of(header: Dataset) -> Dataset:
    return header.RadiopharmaceuticalInformationSequence[0]


def set_drug(**values) -> Change:
    return lambda header: [setattr(drug_of(header), k, v) for k, v in values.items()]


def set_tags(**values) -> Change:
    return lambda header: [setattr(header, k, v) for k, v in values.items()]


def philips(element: int, value: float) -> Change:
    def change(header: Dataset) -> None:
        header.Units = "CNTS"
        block = header.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(element, "DS", str(value))

    return change


def processed_later(header: Dataset) -> None:
    """The series was written hours after the scan; its frame of 180 s began 60 s into the scan."""
    later = SCAN + timedelta(hours=5)
    header.SeriesDate, header.SeriesTime = f"{later:%Y%m%d}", f"{later:%H%M%S}"
    frame = SCAN + timedelta(seconds=60)
    header.AcquisitionDate, header.AcquisitionTime = f"{frame:%Y%m%d}", f"{frame:%H%M%S.%f}"
    header.ActualFrameDuration = 180_000
    # the mean rate of a short frame lies at its middle, less decay * duration^2 / 24 (Taylor)
    middle_s = 90 - np.log(2) / HALF_LIFE_S * 180**2 / 24
    header.FrameReferenceTime = f"{1000 * (60 + middle_s):.3f}"


def told_by_ge(header: Dataset) -> None:
    later = SCAN + timedelta(hours=5)
    header.SeriesDate, header.SeriesTime = f"{later:%Y%m%d}", f"{later:%H%M%S}"
    block = header.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", f"{SCAN:%Y%m%d%H%M%S.%f}")


def past_midnight(header: Dataset) -> None:
    """Injected at 23:30, scanned half a half-life later, on the next day; only times are told."""
    injection = datetime(2020, 3, 2, 23, 30, 0)
    scan = injection + timedelta(seconds=HALF_LIFE_S / 2)
    header.SeriesDate = header.AcquisitionDate = f"{scan:%Y%m%d}"
    header.SeriesTime = header.AcquisitionTime = f"{scan:%H%M%S.%f}"
    drug_of(header).RadiopharmaceuticalStartTime = "233000"


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        pytest.param(lambda header: None, FACTOR, id="becquerels"),
        pytest.param(
            set_drug(RadiopharmaceuticalStartDateTime=f"{INJECTION:%Y%m%d%H%M%S}"),
            FACTOR,
            id="full-injection-time",
        ),
        pytest.param(past_midnight, FACTOR, id="past-midnight"),
        pytest.param(
            set_tags(DecayCorrection="ADMIN"), 75_000 / 300e6, id="corrected-to-injection"
        ),
        pytest.param(set_tags(Units="GML"), 1.0, id="suv-already"),
        pytest.param(philips(0x00, 0.000123), 0.000123, id="philips-suv"),
        pytest.param(philips(0x09, 2.5), 2.5 * FACTOR, id="philips-activity"),
        pytest.param(processed_later, FACTOR, id="processed-later"),
        pytest.param(told_by_ge, FACTOR, id="ge-scan-time"),
    ],
)
def test_suv_is_what_the_formula_says(tmp_path, change, factor):
    volume = read_suv_volume(write_series(tmp_path / "pet", change))
    assert volume.array.shape == (SHAPE[1], SHAPE[0], len(SLOPES))
    for index, slope in enumerate(SLOPES):
        assert volume.array[..., index] == pytest.approx(STORED * slope * factor, rel=1e-5)


def test_a_whole_slope_on_the_first_slice_does_not_round_the_others(tmp_path):
    slopes = (1.0, 0.3703, 40.0)
    volume = read_suv_volume(write_series(tmp_path / "pet", slopes=slopes))
    expected = [STORED * slope * FACTOR for slope in slopes]
    assert volume.array[0, 0].tolist() == pytest.approx(expected, rel=1e-5)


def without(*keywords: str) -> Change:
    def change(header: Dataset) -> None:
        for place in (header, drug_of(header)):
            for keyword in keywords:
                if keyword in place:
                    delattr(place, keyword)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(without("PatientWeight"), r"PatientWeight \(0010, ?1030\): is", id="w"),
        pytest.param(set_tags(PatientWeight=None), "PatientWeight .*missing", id="empty-weight"),
        pytest.param(set_tags(PatientWeight=0), "PatientWeight .*above 0", id="no-weight"),
        pytest.param(without("RadionuclideTotalDose"), "RadionuclideTotalDose .*is mis", id="dose"),
        pytest.param(
            set_drug(RadionuclideTotalDose=300), "RadionuclideTotalDose .*in Bq", id="dose-in-mbq"
        ),
        pytest.param(
            without("RadionuclideHalfLife"), "RadionuclideHalfLife .*missing", id="half-life"
        ),
        pytest.param(
            without("RadiopharmaceuticalStartTime"),
            "RadiopharmaceuticalStartTime .*missing",
            id="injection",
        ),
        pytest.param(
            set_drug(RadiopharmaceuticalStartDateTime="20200303000000"), "after the scan", id="late"
        ),
        pytest.param(without("SeriesTime"), "SeriesTime .*missing", id="series-time"),
        pytest.param(without("AcquisitionDate"), "AcquisitionDate .*missing", id="acquisition"),
        pytest.param(without("DecayCorrection"), "DecayCorrection .*missing", id="decay"),
        pytest.param(set_tags(DecayCorrection="NONE"), "DecayCorrection .*NONE", id="no-decay"),
        pytest.param(set_tags(CorrectedImage="DECY"), "CorrectedImage .*lacks ATTN", id="no-attn"),
        pytest.param(without("Units"), "Units .*missing", id="units"),
        pytest.param(set_tags(Units="PROPCPS"), "Units .*PROPCPS", id="other-units"),
        pytest.param(set_tags(Units="CNTS"), "Units .*CNTS.*7053", id="counts-alone"),
        pytest.param(set_tags(Units="GML", SUVType="LBM"), "SUVType .*LBM", id="lean-body-mass"),
        pytest.param(set_tags(Modality="CT"), "Modality .*CT", id="ct"),
    ],
)
def test_what_is_lacking_is_named(tmp_path, change, told):
    folder = write_series(tmp_path / "pet", change)
    with pytest.raises(BadVolumeError, match=told) as refusal:
        read_suv_volume(folder)
    assert str(folder) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_two_series_in_one_folder_are_refused(tmp_path):
    for _ in range(2):
        folder = write_series(tmp_path / "pet")
    with pytest.raises(BadVolumeError, match="2 DICOM series"):
        read_suv_volume(folder)


@pytest.mark.shared
def test_a_real_ct_series_has_no_suv(shared):
    with pytest.raises(BadVolumeError, match="not PT"):
        read_suv_volume(shared / "data" / "dicom" / "ct_series")
