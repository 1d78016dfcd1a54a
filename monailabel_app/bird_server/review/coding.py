"""Contents and geometries as JSON text in the database, and back.

Knows nothing about tables.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from bird_server.review.errors import DamagedStoreError
from bird_server.review.records import Content
from bird_vlm.contract import Roi, SliceBox, VolumeGeometry
from bird_vlm.errors import BadRequestError


def content_text(content: Content) -> str:
    """Raises BadRequestError for numbers that are not finite."""
    try:
        return json.dumps(asdict(content), allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise BadRequestError(
            f"findings: score, boxes and roi of {content.label!r} must be finite numbers"
        ) from error


def content_from(text: str) -> Content:
    """Raises DamagedStoreError where `text` is no content."""
    try:
        told = json.loads(text)
        return Content(
            label=str(told["label"]),
            score=float(told["score"]),
            roi=Roi(**{name: _tuples(told["roi"][name]) for name in _ROI}),
            boxes=tuple(_box(box) for box in told["boxes"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedStoreError(f"a stored finding cannot be read ({error}): {_DO}") from error


def geometry_text(geometry: VolumeGeometry) -> str:
    return json.dumps(asdict(geometry), allow_nan=False, separators=(",", ":"))


def geometry_from(text: str) -> VolumeGeometry:
    """Raises DamagedStoreError where `text` is no geometry."""
    try:
        told = json.loads(text)
        return VolumeGeometry(_tuples(told["shape_ijk"]), _tuples(told["ijk_to_ras"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedStoreError(f"a stored geometry cannot be read ({error}): {_DO}") from error


_ROI = ("center_ras", "size_mm", "axes_ras")
_DO = "restore a backup of the review database"


def _box(told: dict) -> SliceBox:
    return SliceBox(
        slice=int(told["slice"]),
        score=float(told["score"]),
        box_pixel=_tuples(told["box_pixel"]),
        corners_ras=_tuples(told["corners_ras"]),
        asked=bool(told["asked"]),
    )


def _tuples(value):
    """Lists in lists as tuples in tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
