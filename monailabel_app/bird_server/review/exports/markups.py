"""A case as Slicer's `.mrk.json`: one ROI per finding, its status in the description.

The format itself is written by `bird_vlm.markups`.
"""

from __future__ import annotations

import json
from typing import Any

from bird_server.review.exports.export_file import ExportFile, export_name
from bird_server.review.records import CaseReport, ReviewedFinding
from bird_vlm.contract import GroundingResult
from bird_vlm.markups import markups_json


def markups_file(report: CaseReport) -> ExportFile:
    """One file with all findings of the report, in its order.

    Without any it holds one unplaced ROI that is named after what was not found, since Slicer loads
    no file without markups.
    """
    written = [_written(finding) for finding in report.findings] or [_nothing(report)]
    whole = {**written[0], "markups": [markup for one in written for markup in one["markups"]]}
    content = json.dumps(whole, indent=1, allow_nan=False).encode()
    return ExportFile(export_name(report, ".mrk.json"), "application/json", content)


def as_result(report: CaseReport, findings: tuple[ReviewedFinding, ...]) -> GroundingResult:
    """Findings of one model, plane and window as the answer that they would be."""
    first = findings[0]
    return GroundingResult(
        volume=report.case.geometry,
        model=first.model.id,
        plane=first.plane,
        window=first.window,
        findings=tuple(finding.content.finding() for finding in findings),
        absent=(),
    )


def _written(finding: ReviewedFinding) -> dict[str, Any]:
    result = GroundingResult(
        finding.case.geometry,
        f"{finding.model.id} {finding.model.version}",
        finding.plane,
        finding.window,
        (finding.content.finding(),),
        (),
    )
    written = markups_json(result)
    (point,) = written["markups"][0]["controlPoints"]
    point["description"] += f", {verdict(finding)}"
    return written


def verdict(finding: ReviewedFinding) -> str:
    """The status and who gave it, in words.

    Without a reviewer the finding is as the model proposed it.
    """
    return f"{finding.status} by {finding.reviewer}" if finding.reviewer else finding.status


def _nothing(report: CaseReport) -> dict[str, Any]:
    absent = tuple(dict.fromkeys(absence.prompt for absence in report.absences))
    return markups_json(GroundingResult(report.case.geometry, "", "axial", None, (), absent))
