"""Cases as CSV: a line per slice box, a line per absent label. For spreadsheets and pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from bird_server.review.exports.export_file import ExportFile, export_name
from bird_server.review.records import Absence, CaseReport, ReviewedFinding
from bird_vlm.contract import SliceBox

COLUMNS = (
    *("volume_digest", "case", "finding_id", "prompt", "label", "status", "reviewer", "time"),
    *("comment", "model", "model_version", "plane", "finding_score", "first_slice", "last_slice"),
    *("roi_center_r_mm", "roi_center_a_mm", "roi_center_s_mm"),
    *("roi_size_1_mm", "roi_size_2_mm", "roi_size_3_mm"),
    *("slice", "box_score", "asked", "x0_pixel", "y0_pixel", "x1_pixel", "y1_pixel"),
    *(f"corner{n}_{axis}_mm" for n in (1, 2, 3, 4) for axis in "ras"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def csv_file(reports: Sequence[CaseReport]) -> ExportFile:
    """UTF-8 with a byte-order mark, which Excel needs; numbers are exact.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    for report in reports:
        for row in _rows(report):
            writer.writerow({name: _harmless(value) for name, value in row.items()})
    name = export_name(reports[0], ".csv") if len(reports) == 1 else "findings.csv"
    return ExportFile(name, "text/csv; charset=utf-8", text.getvalue().encode("utf-8-sig"))


def _rows(report: CaseReport) -> Iterator[dict[str, object]]:
    for finding in report.findings:
        told = _finding(finding)
        for box in finding.content.boxes:
            yield {**told, **_box(box)}
    for absence in report.absences:
        yield _absence(absence)


def _finding(finding: ReviewedFinding) -> dict[str, object]:
    content, (first, last) = finding.content, finding.content.slices
    center = zip("ras", content.roi.center_ras, strict=True)
    return {
        "volume_digest": finding.case.volume_digest,
        "case": finding.case.name,
        "finding_id": finding.finding_id,
        "prompt": finding.prompt,
        "label": content.label,
        "status": finding.status,
        "reviewer": finding.reviewer or "",
        "time": finding.time,
        "comment": finding.comment,
        "model": finding.model.id,
        "model_version": finding.model.version,
        "plane": finding.plane,
        "finding_score": content.score,
        "first_slice": first,
        "last_slice": last,
        **{f"roi_center_{axis}_mm": value for axis, value in center},
        **{f"roi_size_{n}_mm": edge for n, edge in enumerate(content.roi.size_mm, start=1)},
    }


def _box(box: SliceBox) -> dict[str, object]:
    edges = zip(("x0", "y0", "x1", "y1"), box.box_pixel, strict=True)
    return {
        "slice": box.slice,
        "box_score": box.score,
        "asked": int(box.asked),
        **{f"{edge}_pixel": value for edge, value in edges},
        **{
            f"corner{n}_{axis}_mm": value
            for n, corner in enumerate(box.corners_ras, start=1)
            for axis, value in zip("ras", corner, strict=True)
        },
    }


def _absence(absence: Absence) -> dict[str, object]:
    return {
        "volume_digest": absence.case.volume_digest,
        "case": absence.case.name,
        "prompt": absence.prompt,
        "status": "absent",
        "time": absence.time,
        "model": absence.model.id,
        "model_version": absence.model.version,
        "plane": absence.plane,
    }


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
