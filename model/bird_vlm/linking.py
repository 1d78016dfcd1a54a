"""Linking: the boxes of one label on many slices -> findings in 3D.

Boxes are followed from slice to slice: each takes the box of the next slice that it overlaps best,
one to one, so two lungs stay two even where one slice joins them. A slice or a few may be missing.
Knows nothing about pictures, models or text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby, pairwise

import numpy as np
from scipy.linalg import polar
from scipy.ndimage import median_filter
from scipy.optimize import linear_sum_assignment

from bird_vlm.boxes import iou, overlap_share
from bird_vlm.contract import Finding, Roi, SliceBox
from bird_vlm.slices import SliceStack

MAX_GAP_MM = 10.0  # of missing slices inside a finding; one missing slice is always allowed
MIN_IOU = 0.1  # boxes of neighbouring slices that overlap this much are the same object,
MIN_SHARE = 0.5  # as are those where this much of the smaller lies in the larger: an object's end
SAME_BOX_IOU = 0.8  # boxes of one slice that overlap this much are one
FULL_SUPPORT_MM = 10.0  # a finding this thick is not a chance hit on one slice
_OUTLIER_STEP = 0.25  # of a box's side, by which an edge may leave the median of five slices

Track = list[SliceBox]
Places = Mapping[int, int]  # of each slice that was asked, its place among all of them


def link_findings(
    label: str,
    boxes: Sequence[SliceBox],
    stack: SliceStack,
    asked: Collection[int] | None = None,
) -> tuple[Finding, ...]:
    """The objects that `boxes` (any order) show, best first.

    `asked` are the slices that were asked, all of them where it is None; between two of them that
    show an object it is taken to go on, and the slices there get boxes in between. A finding's
    score, 0..1, is the median score of its slices, times sqrt(thickness / 10 mm) where it is
    thinner than 10 mm and thinner than what was asked: a lesion on one slice is kept, but below
    one that its neighbours confirm. Its ROI is the box around its slice boxes, see `roi_around`.
    """
    asked = range(stack.count) if asked is None else asked
    extent_mm = (max(asked, default=0) - min(asked, default=0) + 1) * stack.spacing_mm
    places = {index: place for place, index in enumerate(sorted(asked))}
    tracks = [filled(track, stack, places) for track in _tracks(boxes, places, stack.spacing_mm)]
    findings = [
        Finding(
            label=label,
            score=_score(track, stack.spacing_mm, extent_mm),
            slices=(track[0].slice, track[-1].slice),
            roi=roi_around(track, stack),
            boxes=tuple(track),
        )
        for track in tracks
    ]
    return tuple(sorted(findings, key=lambda finding: (-finding.score, -len(finding.boxes))))


def roi_around(boxes: Sequence[SliceBox], stack: SliceStack) -> Roi:
    """The box around slice boxes in slice order, half a slice thicker on either side.

    Its axes are those of the volume, made orthogonal where the volume is sheared, and right-handed.
    From three boxes on it follows the median of neighbouring slices, edge by edge, and ignores
    edges off the median of five by more than a quarter of the side: a box that is wrong on one
    slice does not blow it up, and the largest of many uncertain boxes does not decide it alone.
    """
    edges = _steady_edges(np.array([box.box_pixel for box in boxes]))
    corners_pixel = np.array(
        [
            (x, y, box.slice + half, 1.0)
            for box, (x0, y0, x1, y1) in zip(boxes, edges, strict=True)
            for x in (x0, x1)
            for y in (y0, y1)
            for half in (-0.5, 0.5)
        ]
    )
    corners_ras = (corners_pixel @ stack.pixel_to_ras(0).T)[:, :3]
    axes_ras = _right_handed_axes(stack.ijk_to_ras)  # columns are the axes
    positions = corners_ras @ axes_ras
    low, high = positions.min(0), positions.max(0)
    return Roi(
        center_ras=tuple(map(float, axes_ras @ ((low + high) / 2))),
        size_mm=tuple(map(float, high - low)),
        axes_ras=tuple(tuple(map(float, row)) for row in axes_ras),
    )


def filled(track: Track, stack: SliceStack, places: Places) -> Track:
    """The track with boxes on slices that were not asked, on straight lines between its edges.

    Not where a slice in between was asked and does not show the object.
    """
    whole = track[:1]
    for low, high in pairwise(track):
        unasked = range(low.slice + 1, high.slice) if _are_next(low, high, places) else ()
        for index in unasked:
            share = (index - low.slice) / (high.slice - low.slice)
            edges = (1 - share) * np.array(low.box_pixel) + share * np.array(high.box_pixel)
            box_pixel = tuple(map(float, edges))
            score = round((1 - share) * low.score + share * high.score, 4)
            corners_ras = stack.corners_ras(index, box_pixel)
            whole.append(SliceBox(index, score, box_pixel, corners_ras, asked=False))
        whole.append(high)
    return whole


def _are_next(low: SliceBox, high: SliceBox, places: Places) -> bool:
    """Whether no slice between two boxes was asked."""
    return places[high.slice] == places[low.slice] + 1


def _tracks(boxes: Iterable[SliceBox], places: Places, spacing_mm: float) -> list[Track]:
    most = 1 + max(1, int(MAX_GAP_MM / spacing_mm))
    tracks: list[Track] = []
    ordered = sorted(boxes, key=lambda box: (box.slice, -box.score))
    for _, group in groupby(ordered, key=lambda box: box.slice):
        fresh = _without_repeats(group)
        open_tracks = [
            track
            for track in tracks
            if fresh[0].slice - track[-1].slice <= most or _are_next(track[-1], fresh[0], places)
        ]
        taken = _extend(open_tracks, fresh)
        tracks.extend([box] for i, box in enumerate(fresh) if i not in taken)
    return tracks


def _without_repeats(boxes: Iterable[SliceBox]) -> list[SliceBox]:
    kept: list[SliceBox] = []
    for box in boxes:
        if all(iou(box.box_pixel, other.box_pixel) < SAME_BOX_IOU for other in kept):
            kept.append(box)
    return kept


def _extend(tracks: list[Track], boxes: list[SliceBox]) -> set[int]:
    """Append to each track the box that continues it; the positions of the boxes taken."""
    affinity = np.array([[_affinity(track[-1], box) for box in boxes] for track in tracks])
    if not affinity.size:
        return set()
    taken = set()
    for row, column in zip(*linear_sum_assignment(affinity, maximize=True), strict=True):
        if affinity[row, column] > 0:
            tracks[row].append(boxes[column])
            taken.add(int(column))
    return taken


def _affinity(box: SliceBox, other: SliceBox) -> float:
    overlap = iou(box.box_pixel, other.box_pixel)
    share = overlap_share(box.box_pixel, other.box_pixel)
    return overlap + share if overlap >= MIN_IOU or share >= MIN_SHARE else 0.0


def _score(track: Track, spacing_mm: float, extent_mm: float) -> float:
    thickness_mm = (track[-1].slice - track[0].slice + 1) * spacing_mm
    support = min(1.0, thickness_mm / min(FULL_SUPPORT_MM, extent_mm))
    return float(np.median([box.score for box in track]) * np.sqrt(support))


def _steady_edges(edges_pixel: np.ndarray) -> np.ndarray:
    """(boxes, 4) edges in slice order, without outliers and without the noise of single slices."""
    if len(edges_pixel) < 3:
        return edges_pixel
    usual = median_filter(edges_pixel, size=(5, 1), mode="mirror")
    sides = np.tile(usual[:, 2:] - usual[:, :2], 2)
    outlying = np.abs(edges_pixel - usual) > _OUTLIER_STEP * sides
    return median_filter(np.where(outlying, usual, edges_pixel), size=(3, 1), mode="nearest")


def _right_handed_axes(ijk_to_ras: np.ndarray) -> np.ndarray:
    """3x3, columns = the volume's axes as the nearest orthonormal right-handed frame."""
    columns = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    axes, _ = polar(columns)
    return axes * [1.0, 1.0, np.sign(np.linalg.det(axes))]
