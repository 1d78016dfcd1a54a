"""DICOM SR exports, read back with highdicom from the bytes, against a series written here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="highdicom is not installed")

import highdicom as hd
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from bird_server.review.errors import ExportError
from bird_server.review.records import Edit
from bird_server.review.review import Review, Scan
from bird_vlm.contract import GroundingResult, Plane
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume, read_volume
from review_cases import a_finding, a_store_in, by

COLUMNS, ROWS, SLICES = 24, 20, 10
SPACING, STEP_MM = (1.25, 0.75), 2.5  # columns, rows
TURN = np.deg2rad(25)
ACROSS = np.array([np.cos(TURN), np.sin(TURN), 0.0])  # LPS, along a row
DOWN = np.array([-np.sin(TURN) * 0.8, np.cos(TURN) * 0.8, -0.6])  # LPS, along a column
FIRST = np.array([-101.5, -57.25, 812.125])  # LPS, mm


def write_series(folder: Path, drop: tuple[str, ...] = ()) -> Path:
    """An oblique CT series, one file per slice, named against the slice order."""
    folder.mkdir()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    pixels = np.random.default_rng(3).integers(0, 900, (SLICES, ROWS, COLUMNS), dtype=np.uint16)
    for index in range(SLICES):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{SLICES - index:03d}.dcm"
        data = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
        data.is_little_endian, data.is_implicit_VR = True, False
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID = study, series
        data.FrameOfReferenceUID, data.Modality = frame, "CT"
        data.PatientID, data.PatientName, data.StudyDate = "P7", "Doe^Jo", "20260102"
        data.InstanceNumber = index + 1
        data.ImageOrientationPatient = [*ACROSS, *DOWN]
        data.ImagePositionPatient = list(FIRST + index * STEP_MM * np.cross(ACROSS, DOWN))
        data.PixelSpacing = list(reversed(SPACING))
        data.Rows, data.Columns = ROWS, COLUMNS
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation, data.RescaleIntercept, data.RescaleSlope = 0, -1024, 1
        data.PixelData = pixels[index].tobytes()
        for keyword in drop:
            delattr(data, keyword)
        data.save_as(path, write_like_original=False)
    return folder


@pytest.fixture
def a_series(tmp_path) -> Path:
    return write_series(tmp_path / "series")


def reviewed(folder: Path, volume: Volume, plane: Plane = "axial") -> Review:
    """An accepted liver on some slices and an edited lesion on one."""
    review = Review(a_store_in(folder), folder)
    geometry = volume.geometry()
    stack = slice_stack(geometry, plane)
    last = stack.count // 2 + 1
    findings = (
        a_finding("liver", 2, last, (2.25, 1.0, 7.0, 8.5), geometry, plane, score=0.8125),
        a_finding("lesion", 4, 4, (1.0, 2.0, 5.0, 6.0), geometry, plane),
        a_finding("rib", 1, 3, (1.0, 2.0, 5.0, 6.0), geometry, plane),
    )
    liver, lesion, rib = review.propose(
        volume, "ct", GroundingResult(geometry, "bird-mini", plane, None, findings, ()), "ab12"
    ).added
    review.store.accept(liver, by("Jürgen Weiß", 1))
    review.store.edit(lesion, by("Jürgen Weiß", 1), Edit(boxes=((4, (1.5, 2.0, 5.0, 6.25)),)))
    review.store.reject(rib, by("Jürgen Weiß", 1))
    return review


def read_back(review: Review, volume: Volume, source: Path) -> hd.sr.Comprehensive3DSR:
    exported = review.export(volume.digest, "dicom-sr", Scan(volume, source))
    path = source.parent / exported.name
    path.write_bytes(exported.content)
    assert path.name.endswith(".sr.dcm")
    return hd.sr.Comprehensive3DSR.from_dataset(pydicom.dcmread(path))


def polygons_ras(group) -> np.ndarray:
    """(n, 4, 3) mm of a measurement group, closed in the file."""
    if isinstance(group, hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations):
        rings = [group.roi.value]
    else:
        rings = list(group.roi.graphic_data)
    rings = np.array(rings)
    np.testing.assert_array_equal(rings[:, 0], rings[:, -1])
    return rings[:, :-1] * [-1, -1, 1]


def groups_of(report, part: str) -> list:
    content = report.content
    every = [
        *content.get_planar_roi_measurement_groups(),
        *content.get_volumetric_roi_measurement_groups(),
    ]
    chosen = [g for g in every if g.tracking_identifier.endswith(part)]
    return sorted(chosen, key=lambda group: group.tracking_identifier)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slice_boxes_and_3d_boxes_read_back_within_a_hundredth_of_a_millimetre(
    a_series, tmp_path, plane
):
    volume = read_volume(a_series)
    review = reviewed(tmp_path, volume, plane)

    report = read_back(review, volume, a_series)

    findings = review.store.report(volume.digest).findings[:2]
    boxes, wholes = groups_of(report, "slice boxes"), groups_of(report, "3D box")
    assert [g.finding_type.meaning for g in boxes] == ["liver", "lesion"]
    for finding, group, whole in zip(findings, boxes, wholes, strict=True):
        corners_ras = [box.corners_ras for box in finding.content.boxes]
        np.testing.assert_allclose(polygons_ras(group), corners_ras, atol=0.01)
        roi = finding.content.roi
        faces = polygons_ras(whole).reshape(-1, 3)
        np.testing.assert_allclose(faces.mean(0), roi.center_ras, atol=0.01)
        across = (faces - roi.center_ras) @ np.array(roi.axes_ras)
        np.testing.assert_allclose(np.ptp(across, axis=0), roi.size_mm, atol=0.01)
        assert group.tracking_uid == whole.tracking_uid


def test_boxes_lie_where_the_dicom_headers_put_their_pixels(a_series, tmp_path):
    """Against the header's own formula (PS3.3 C.7.6.2.1.1), without any of our conversions."""
    volume = read_volume(a_series)
    review = Review(a_store_in(tmp_path), tmp_path)
    geometry = volume.geometry()
    stack = slice_stack(geometry, "axial")
    whole = (0.0, 0.0, float(stack.width), float(stack.height))
    answer = GroundingResult(
        geometry, "m", "axial", None, (a_finding("all", 0, 9, whole, geometry),), ()
    )
    (finding,) = review.propose(volume, "ct", answer, "v").added
    review.store.accept(finding, by("ann", 1))

    (group,) = groups_of(read_back(review, volume, a_series), "slice boxes")

    corners = [(x, y) for x in (-0.5, COLUMNS - 0.5) for y in (-0.5, ROWS - 0.5)]
    normal = np.cross(ACROSS, DOWN)
    expected = [
        FIRST + k * STEP_MM * normal + x * SPACING[0] * ACROSS + y * SPACING[1] * DOWN
        for k in range(SLICES)
        for x, y in corners
    ]
    found = polygons_ras(group).reshape(-1, 3) * [-1, -1, 1]
    away = np.linalg.norm(found[:, None] - np.array(expected)[None], axis=2)
    assert away.min(axis=0).max() < 0.01
    assert away.min(axis=1).max() < 0.01


def test_verdicts_scores_sizes_and_models_are_in_the_report(a_series, tmp_path):
    volume = read_volume(a_series)
    review = reviewed(tmp_path, volume)

    liver, lesion = groups_of(read_back(review, volume, a_series), "3D box")

    told = [
        {e.name.meaning: e.value.meaning for e in group.get_qualitative_evaluations()}
        for group in (liver, lesion)
    ]
    assert told[0] == {"Review status": "accepted", "Reviewer": "Jürgen Weiß"}
    assert told[1]["Review status"] == "edited"
    measured = {m.name.meaning: m.value for m in liver.get_measurements()}
    size_mm = review.store.report(volume.digest).findings[0].content.roi.size_mm
    assert measured["Presence score"] == 0.8125
    assert measured["Edge along box axis 3"] == pytest.approx(size_mm[2], abs=1e-4)


def test_the_report_belongs_to_the_patient_and_refers_to_the_slices(a_series, tmp_path):
    volume = read_volume(a_series)
    review = reviewed(tmp_path, volume)
    report = read_back(review, volume, a_series)
    headers = [pydicom.dcmread(path) for path in sorted(a_series.iterdir(), reverse=True)]

    assert (report.PatientID, report.PatientName) == ("P7", "Doe^Jo")
    assert report.StudyInstanceUID == headers[0].StudyInstanceUID
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    referred = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    (liver, *_) = groups_of(report, "3D box")
    shown = {i.referenced_sop_instance_uid for i in liver.roi.source_images_for_segmentation}
    low, high = review.store.report(volume.digest).findings[0].content.slices
    stack = slice_stack(volume.geometry(), "axial")
    assert stack.slice_axis == 2
    assert shown == {headers[k].SOPInstanceUID for k in range(low, high + 1)}
    assert shown <= referred


# Refusals


def test_a_volume_that_was_no_dicom_is_refused(a_phantom_volume, tmp_path):
    volume = a_phantom_volume.volume
    review = reviewed(tmp_path, volume)

    with pytest.raises(ExportError, match="did not come as DICOM"):
        review.export(volume.digest, "dicom-sr", Scan(volume))


def test_another_series_is_refused(a_series, tmp_path):
    volume = read_volume(a_series)
    review = reviewed(tmp_path, volume)
    other = shutil.copytree(a_series, tmp_path / "other")
    for path in other.iterdir():
        data = pydicom.dcmread(path)
        data.RescaleIntercept = -1000
        data.save_as(path)

    with pytest.raises(ExportError, match="not the volume that was reviewed"):
        review.export(volume.digest, "dicom-sr", Scan(volume, other))


def test_headers_that_nothing_can_refer_to_are_refused(tmp_path):
    series = write_series(tmp_path / "series", drop=("FrameOfReferenceUID",))
    volume = read_volume(series)

    with pytest.raises(ExportError, match="lack FrameOfReferenceUID"):
        reviewed(tmp_path, volume).export(volume.digest, "dicom-sr", Scan(volume, series))


def test_nothing_reviewed_is_nothing_to_report(a_series, tmp_path):
    volume = read_volume(a_series)
    review = Review(a_store_in(tmp_path), tmp_path)
    geometry = volume.geometry()
    proposed = GroundingResult(
        geometry, "m", "axial", None, (a_finding(geometry=geometry, box_pixel=(1, 1, 5, 5)),), ()
    )
    review.propose(volume, "ct", proposed, "v")

    with pytest.raises(ExportError, match="none to report"):
        review.export(volume.digest, "dicom-sr", Scan(volume, a_series))


def test_a_folder_with_other_files_and_another_series_still_works(a_series, tmp_path):
    volume = read_volume(a_series)
    review = reviewed(tmp_path, volume)
    (a_series / "notes.txt").write_text("not DICOM")
    (a_series / "scout").mkdir()
    scout = pydicom.dcmread(a_series / "001.dcm")
    scout.SeriesInstanceUID, scout.SOPInstanceUID = generate_uid(), generate_uid()
    scout.save_as(a_series / "scout" / "001.dcm")

    assert len(groups_of(read_back(review, volume, a_series), "3D box")) == 2


@pytest.mark.shared
def test_a_real_series_whose_archive_removed_the_ids_is_refused(shared, tmp_path):
    source = shared / "data" / "dicom" / "ct_series"
    volume = read_volume(source)

    with pytest.raises(ExportError, match="lack StudyInstanceUID, SeriesInstanceUID"):
        reviewed(tmp_path, volume).export(volume.digest, "dicom-sr", Scan(volume, source))


@pytest.mark.shared
def test_a_real_series_with_ids_reads_back(shared, tmp_path):
    """The same series with the identifiers that its archive had removed."""
    source = shutil.copytree(shared / "data" / "dicom" / "ct_series", tmp_path / "ct")
    study, series = generate_uid(), generate_uid()
    for path in source.iterdir():
        data = pydicom.dcmread(path)
        data.StudyInstanceUID, data.SeriesInstanceUID = study, series
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
        data.save_as(path)
    volume = read_volume(source)
    review = reviewed(tmp_path, volume)

    boxes = groups_of(read_back(review, volume, source), "slice boxes")

    findings = review.store.report(volume.digest).findings[:2]
    for finding, group in zip(findings, boxes, strict=True):
        corners_ras = [box.corners_ras for box in finding.content.boxes]
        np.testing.assert_allclose(polygons_ras(group), corners_ras, atol=0.01)
