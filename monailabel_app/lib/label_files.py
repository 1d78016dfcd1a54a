"""Saved label files as drawings: Slicer's markups (`.mrk.json`) and label maps.

Knows nothing about the datastore or the review store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bird_server.review.records import Drawing
from bird_vlm.boxes import mask_to_box_pixel
from bird_vlm.contract import Roi
from bird_vlm.errors import BirdError
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume, read_volume

MAX_BYTES = 32 << 20  # of a markups file
MAX_PARTS = 5  # connected areas of one value that become findings, the largest ones
_MIN_SHARE = 0.05  # of the largest area's voxels, below which another is taken for a speck
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


class UntoldLabelError(BirdError):
    """A label file of which it cannot be told what it shows."""


def drawings_of(path: Path, volume: Volume, names: Mapping[int, str]) -> list[Drawing]:
    """What a label file of `volume` shows; `names` are those of a label map's values.

    Raises UntoldLabelError, which says why it shows nothing that can be told.
    """
    if path.name.lower().endswith(".json"):
        return roi_drawings(path)
    if not names:
        raise UntoldLabelError("its values have no names; send label_info with name and idx")
    return map_drawings(read_volume(path), volume, names)


def roi_drawings(path: Path) -> list[Drawing]:
    """The placed boxes of a markups file; each is called as its control point, or as itself."""
    if path.stat().st_size > MAX_BYTES:
        raise UntoldLabelError(f"its markups have more than {MAX_BYTES} bytes")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        markups = [m for m in told["markups"] if m["type"] == "ROI" and m["controlPoints"]]
        return [Drawing(_label(markup), roi=_roi(markup)) for markup in markups]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UntoldLabelError("it holds no ROI markups that can be read") from error


def map_drawings(label_map: Volume, volume: Volume, names: Mapping[int, str]) -> list[Drawing]:
    """Boxes on axial slices around each connected area of each named value."""
    same_shape = label_map.array.shape == volume.array.shape[:3]
    if not same_shape or not np.allclose(label_map.ijk_to_ras, volume.ijk_to_ras, atol=1e-2):
        raise UntoldLabelError("it lies on another grid than its image; resample it")
    values = np.rint(label_map.array).astype(np.int64)
    return [
        drawing
        for value, name in names.items()
        for area in _areas(values == value)
        for drawing in [_drawing(name, area, volume)]
    ]


def label_names(params: Any) -> dict[int, str]:
    """Names by value, of the `label_info` that Slicer's plugin sends: [{"name", "idx"}, ...]."""
    told = params.get("label_info") if isinstance(params, dict) else None
    rows = told if isinstance(told, list) else []
    return {
        row["idx"]: row["name"]
        for row in rows
        if isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("idx"), int)
        and row["idx"] > 0
    }


def _label(markup: dict[str, Any]) -> str:
    return str(markup["controlPoints"][0].get("label") or markup["name"])


def _roi(markup: dict[str, Any]) -> Roi:
    """The file's orientation has the axes of the box as columns, row by row."""
    to_ras = np.eye(3) if markup.get("coordinateSystem") == "RAS" else _LPS_TO_RAS
    center = to_ras @ np.array(markup["center"], float)
    axes = to_ras @ np.array(markup["orientation"], float).reshape(3, 3)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1  # a box has no handedness of its own
    size = tuple(float(edge) for edge in markup["size"])
    return Roi(tuple(center.tolist()), size, tuple(map(tuple, axes.tolist())))


def _areas(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Connected areas (26 neighbours), the largest first, without specks."""
    areas, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(areas.ravel(), minlength=count + 1)[1:]
    for number in np.argsort(-sizes, kind="stable")[:MAX_PARTS]:
        if sizes[number] >= _MIN_SHARE * sizes.max():
            yield areas == number + 1


def _drawing(name: str, area: np.ndarray, volume: Volume) -> Drawing:
    stack = slice_stack(volume.geometry(), "axial")
    boxes = [(k, mask_to_box_pixel(stack.cut(area, k))) for k in range(stack.count)]
    return Drawing(name, "axial", tuple((k, box) for k, box in boxes if box is not None))
