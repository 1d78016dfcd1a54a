"""The writer of Slicer's `.mrk.json`: one ROI markup per finding.

The only place of ours that turns RAS into LPS, the space of that file format. Knows nothing about
models, slices or how a finding came about.
"""

from __future__ import annotations

from typing import Any

from bird_vlm.contract import Finding, GroundingResult, Point, Roi

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.3.json#"
)


def markups_json(result: GroundingResult) -> dict[str, Any]:
    """`result` as the content of a `.mrk.json` file, ready for `json.dump`.

    One ROI per finding, in the findings' order; its single control point carries the label, and
    the score, slices and model as description (Slicer keeps both when the node is renamed). Slicer
    cannot load a file without markups: where nothing was found, the file holds one ROI without
    control points, which Slicer shows as an unplaced, invisible box.
    """
    markups = [_roi_markup(finding, result) for finding in result.findings]
    return {"@schema": SCHEMA, "markups": markups or [_unplaced_markup(result)]}


def _roi_markup(finding: Finding, result: GroundingResult) -> dict[str, Any]:
    center_lps = _point_lps(finding.roi.center_ras)
    orientation_lps = _orientation_lps(finding.roi)
    return {
        **_markup(finding.label),
        "lastUsedControlPointNumber": 1,
        "center": center_lps,
        "orientation": orientation_lps,
        "size": [float(edge) for edge in finding.roi.size_mm],
        "controlPoints": [
            {
                "id": "1",
                "label": finding.label,
                "description": _description(finding, result),
                "associatedNodeID": "",
                "position": center_lps,
                "orientation": orientation_lps,
                "selected": True,
                "locked": False,
                "visibility": True,
                "positionStatus": "defined",
            }
        ],
    }


def _unplaced_markup(result: GroundingResult) -> dict[str, Any]:
    return {**_markup(f"not found: {', '.join(result.absent)}"), "controlPoints": []}


def _markup(name: str) -> dict[str, Any]:
    return {
        "type": "ROI",
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "roiType": "Box",
        "insideOut": False,
    }


def _description(finding: Finding, result: GroundingResult) -> str:
    first, last = finding.slices
    return f"score {finding.score:.2f}, {result.plane} slices {first} to {last}, {result.model}"


def _point_lps(point_ras: Point) -> list[float]:
    right, anterior, superior = point_ras
    return [-float(right), -float(anterior), float(superior)]


def _orientation_lps(roi: Roi) -> list[float]:
    """The direction matrix row by row, its first two rows negated."""
    return [
        sign * float(value)
        for sign, row in zip((-1, -1, 1), roi.axes_ras, strict=True)
        for value in row
    ]
