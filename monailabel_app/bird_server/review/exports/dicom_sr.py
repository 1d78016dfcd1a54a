"""A case as a DICOM Structured Report, TID 1500 "Measurement Report" (DICOM PS3.16), by highdicom.

Each finding is two groups of the same tracking UID: its slice boxes, as polygons in patient space
(SCOORD3D), and its 3D box, as the polygons of two opposite faces. Labels and statuses have no
common codes here: they are coded under the private scheme 99BIRD. The report refers to the
instances of the very series that was reviewed; anything else is refused.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bird_server.review.errors import ExportError
from bird_server.review.exports.dicom_instances import crossing, instances_of
from bird_server.review.exports.export_file import ExportFile, export_name
from bird_server.review.records import CaseReport, ReviewedFinding
from bird_vlm.contract import Roi
from bird_vlm.version import __version__
from bird_vlm.volume_files import LPS_TO_RAS

if TYPE_CHECKING:
    from highdicom.sr import (
        CodedConcept,
        Comprehensive3DSR,
        ImageContentItem,
        MeasurementReport,
        ObservationContext,
    )
    from highdicom.sr.templates import Template
    from pydicom import Dataset

SCHEME = "99BIRD"
SLICE_BOXES, WHOLE_BOX = "slice boxes", "3D box"  # of a finding, in its tracking identifiers
SERIES_NUMBER = 9501
MAX_MEANING_CHARACTERS = 64
_NAMESPACE = uuid.UUID("6f1cf2a3-52c9-4f0c-9f64-5bb1f4e0a9d3")  # this software as an observer


def sr_file(report: CaseReport, source: Path | None) -> ExportFile:
    """`source` is the DICOM folder or file that the case was read from.

    Raises ExportError where there is none, where it is not the volume that was reviewed, or where
    the report has no findings.
    """
    if not report.findings:
        raise ExportError("findings: none to report; review some, or choose other statuses")
    instances = instances_of(source, report.case)
    buffer = io.BytesIO()
    structured_report(report, instances).save_as(buffer, write_like_original=False)
    return ExportFile(export_name(report, ".sr.dcm"), "application/dicom", buffer.getvalue())


def structured_report(report: CaseReport, instances: Sequence[Dataset]) -> Comprehensive3DSR:
    """The report as a data set; `instances` are the headers of the reviewed series."""
    from highdicom import UID
    from highdicom.sr import Comprehensive3DSR

    return Comprehensive3DSR(
        evidence=list(instances),
        content=_measurement_report(report, instances)[0],
        series_instance_uid=UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="BiRD for 3D Slicer",
        series_description="BiRD review, not a diagnosis",
        is_complete=all(finding.status != "proposed" for finding in report.findings),
        is_final=False,
        is_verified=False,
    )


def _measurement_report(report: CaseReport, instances: Sequence[Dataset]) -> MeasurementReport:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.MeasurementReport(
        observation_context=_observers(report),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[
            group
            for number, finding in enumerate(report.findings, start=1)
            for group in _groups(number, finding, instances)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _observers(report: CaseReport) -> ObservationContext:
    """This software, and the reviewer where there is just one."""
    from highdicom import UID, sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=UID.from_uuid(str(_NAMESPACE)), name="BiRD for 3D Slicer", model_name=__version__
    )
    people = sorted({f.reviewer for f in report.findings if f.reviewer})
    person = None
    if len(people) == 1:
        name = sr.PersonObserverIdentifyingAttributes(_person_name(people[0]))
        person = sr.ObserverContext(codes.DCM.Person, name)
    return sr.ObservationContext(person, sr.ObserverContext(codes.DCM.Device, device))


def _groups(number: int, finding: ReviewedFinding, instances: Sequence[Dataset]) -> list[Template]:
    """The slice boxes and the 3D box of one finding."""
    return [_slice_boxes(number, finding, instances), _whole_box(number, finding, instances)]


def _slice_boxes(number: int, finding: ReviewedFinding, instances: Sequence[Dataset]) -> Template:
    from highdicom import sr

    told, tracking = _told(finding), _tracking(number, finding, SLICE_BOXES)
    frame = instances[0].FrameOfReferenceUID
    slices = _polygons([box.corners_ras for box in finding.content.boxes])
    if len(slices) == 1:
        region = sr.ImageRegion3D("POLYGON", slices[0], frame)
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(tracking, region, **told)
    surface = sr.VolumeSurface("POLYGON", slices, frame, _sources(finding, instances))
    volumetric = sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    return volumetric(tracking, referenced_volume_surface=surface, **told)


def _whole_box(number: int, finding: ReviewedFinding, instances: Sequence[Dataset]) -> Template:
    from highdicom import sr

    faces, frame = _polygons(faces_ras(finding.content.roi)), instances[0].FrameOfReferenceUID
    surface = sr.VolumeSurface("POLYGON", faces, frame, _sources(finding, instances))
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(number, finding, WHOLE_BOX),
        referenced_volume_surface=surface,
        measurements=_measurements(finding),
        **_told(finding),
    )


def _told(finding: ReviewedFinding) -> dict[str, Any]:
    from highdicom import sr

    verdicts = [sr.QualitativeEvaluation(_code("Review status"), _code(finding.status))]
    if finding.reviewer:
        verdicts.append(sr.QualitativeEvaluation(_code("Reviewer"), _code(finding.reviewer)))
    told = {
        "finding_type": _code(finding.content.label),
        "qualitative_evaluations": verdicts,
    }
    if not finding.by_hand:
        model = finding.model
        told["algorithm_id"] = sr.AlgorithmIdentification(model.id, model.version)
    return told


def _measurements(finding: ReviewedFinding) -> list[Template]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    score = sr.Measurement(
        _code("Presence score"), round(finding.content.score, 6), codes.UCUM.NoUnits
    )
    edges = [
        sr.Measurement(_code(f"Edge along box axis {axis}"), round(edge, 4), codes.UCUM.mm)
        for axis, edge in enumerate(finding.content.roi.size_mm, start=1)
    ]
    return [score, *edges]


def faces_ras(roi: Roi) -> np.ndarray:
    """(2, 4, 3) mm: the corners of the low and the high face along the box's third axis."""
    u, v, w = (np.array(roi.axes_ras) * roi.size_mm).T / 2
    ring = np.array([-u - v, u - v, u + v, -u + v])
    return np.array(roi.center_ras) + np.array([ring - w, ring + w])


def _polygons(rings_ras) -> list[np.ndarray]:
    """Each ring of four corners as a closed LPS polygon (5, 3), mm."""
    corners_ras = np.asarray(rings_ras, dtype=float)
    closed = np.concatenate([corners_ras, corners_ras[:, :1]], axis=1)
    return list(closed @ LPS_TO_RAS[:3, :3])  # diagonal, so its own inverse and transpose


def _sources(finding: ReviewedFinding, instances: Sequence[Dataset]) -> list[ImageContentItem]:
    from highdicom import sr

    corners_lps = faces_ras(finding.content.roi).reshape(-1, 3) @ LPS_TO_RAS[:3, :3]
    return [
        sr.SourceImageForSegmentation(instance.SOPClassUID, instance.SOPInstanceUID)
        for instance in crossing(instances, corners_lps)
    ]


def _tracking(number: int, finding: ReviewedFinding, part: str) -> Template:
    from highdicom import UID, sr

    uid = UID.from_uuid(str(uuid.UUID(hex=finding.finding_id)))
    return sr.TrackingIdentifier(uid, f"{number}: {finding.content.label}, {part}")


def _code(meaning: str) -> CodedConcept:
    """A private code for words of ours; values are 16 characters at most, meanings 64."""
    from highdicom.sr import CodedConcept

    value = hashlib.blake2b(meaning.encode(), digest_size=6).hexdigest()
    plain = meaning.replace("\\", "/")
    return CodedConcept(value, SCHEME, plain[:MAX_MEANING_CHARACTERS])


def _person_name(reviewer: str) -> str:
    """A reviewer's name as the family name of a DICOM person name (64 characters at most)."""
    plain = reviewer.translate(str.maketrans("\\^=", "///"))
    return f"{plain[: MAX_MEANING_CHARACTERS - 1]}^"
