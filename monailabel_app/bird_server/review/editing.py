"""What a reviewer's edit makes of a finding: boxes, corners and ROI that fit each other.

Knows nothing about databases or who edits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from bird_server.review.records import Content, Drawing, Edit
from bird_vlm.contract import (
    BoxPixel,
    GroundingRequest,
    Plane,
    Roi,
    SliceBox,
    VolumeGeometry,
    check_plane,
)
from bird_vlm.errors import BadRequestError
from bird_vlm.linking import roi_around
from bird_vlm.slices import SliceStack, slice_stack

BY_HAND = 1.0  # the score of a box that a person drew


def edited(content: Content, edit: Edit, geometry: VolumeGeometry, plane: Plane) -> Content:
    """`content` after an edit; its score stays the model's.

    Raises BadRequestError for an edit that changes nothing, has boxes outside the volume or two on
    one slice, or an ROI that is no box or meets no slice.
    """
    stack = slice_stack(geometry, plane)
    changed = content
    if edit.label is not None:
        changed = replace(changed, label=GroundingRequest((edit.label,)).labels[0])
    if edit.roi is not None:
        _check_roi(edit.roi)
        changed = replace(changed, roi=edit.roi)
    if edit.boxes is not None:
        boxes = _drawn(edit.boxes, stack)
        changed = replace(changed, boxes=boxes, roi=edit.roi or roi_around(boxes, stack))
    elif edit.roi is not None:
        changed = replace(changed, boxes=boxes_of(edit.roi, stack))
    if changed == content:
        raise BadRequestError("edit: changes nothing; accept the finding instead")
    return changed


def drawn(drawing: Drawing, geometry: VolumeGeometry) -> Content:
    """What a reviewer drew, as a finding that is sure. Raises BadRequestError as `edited` does."""
    check_plane(drawing.plane)
    if drawing.boxes is None and drawing.roi is None:
        raise BadRequestError("boxes: give boxes on slices, an ROI, or both")
    stack = slice_stack(geometry, drawing.plane)
    if drawing.roi is not None:
        _check_roi(drawing.roi)
    boxes = boxes_of(drawing.roi, stack) if drawing.boxes is None else _drawn(drawing.boxes, stack)
    label = GroundingRequest((drawing.label,)).labels[0]
    return Content(label, BY_HAND, drawing.roi or roi_around(boxes, stack), boxes)


def boxes_of(roi: Roi, stack: SliceStack) -> tuple[SliceBox, ...]:
    """The box around `roi` on every slice whose centre it holds, clipped to the picture."""
    half_mm = np.array(roi.size_mm) / 2
    signs = np.array(list(product((-1, 1), repeat=3)))
    corners_ras = np.array(roi.center_ras) + (signs * half_mm) @ np.array(roi.axes_ras).T
    corners = np.c_[corners_ras, np.ones(8)] @ np.linalg.inv(stack.pixel_to_ras(0)).T
    (x0, y0, z0), (x1, y1, z1) = corners[:, :3].min(0), corners[:, :3].max(0)
    x0, x1 = np.clip((x0, x1), 0, stack.width)
    y0, y1 = np.clip((y0, y1), 0, stack.height)
    first, last = max(0, int(np.ceil(z0 - 1e-6))), min(stack.count - 1, int(np.floor(z1 + 1e-6)))
    if first > last or x0 >= x1 or y0 >= y1:
        raise BadRequestError("roi: meets no slice of the volume; move or enlarge it")
    box_pixel = (float(x0), float(y0), float(x1), float(y1))
    return _drawn([(index, box_pixel) for index in range(first, last + 1)], stack)


def _drawn(boxes: Sequence[tuple[int, BoxPixel]], stack: SliceStack) -> tuple[SliceBox, ...]:
    indices = [index for index, _ in boxes]
    if not indices or len(set(indices)) < len(indices):
        raise BadRequestError(f"boxes: needs one box on each of its slices, got slices {indices}")
    return tuple(_drawn_box(index, box_pixel, stack) for index, box_pixel in sorted(boxes))


def _drawn_box(index: int, box_pixel: BoxPixel, stack: SliceStack) -> SliceBox:
    if not 0 <= index < stack.count:
        raise BadRequestError(f"boxes: slice must lie in 0..{stack.count - 1}, got {index}")
    x0, y0, x1, y1 = box_pixel = tuple(map(float, box_pixel))
    if not (0 <= x0 < x1 <= stack.width and 0 <= y0 < y1 <= stack.height):
        raise BadRequestError(
            f"boxes: needs 0 <= x0 < x1 <= {stack.width} and 0 <= y0 < y1 <= {stack.height} "
            f"on slice {index}, got {list(box_pixel)}"
        )
    return SliceBox(index, BY_HAND, box_pixel, stack.corners_ras(index, box_pixel))


def _check_roi(roi: Roi) -> None:
    axes = np.array(roi.axes_ras, dtype=float)
    numbers = np.concatenate([roi.center_ras, roi.size_mm, axes.ravel()])
    if numbers.shape != (15,) or not (np.abs(numbers) < 1e6).all() or min(roi.size_mm) <= 0:
        raise BadRequestError("roi: needs a centre, positive sizes and a 3x3 matrix, all finite")
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3) or np.linalg.det(axes) < 0:
        raise BadRequestError(f"roi: axes_ras must be a right-handed rotation, got {axes.tolist()}")
