"""Answers of a server, made by hand for a volume of the scene. Test helper.

Boxes are given in voxels, so that a test can say where they must show.
"""

import numpy as np

from BiRDLib import answers
from BiRDLib import scene as geometry


def corners_ras(volume, axis, index, low, high):
    """Around the box low..high (outer edges, the two other IJK axes in order) on slice `index`."""
    a, b = [n for n in range(3) if n != axis]
    corners_ijk = np.full((4, 4), float(index))
    corners_ijk[:, 3] = 1.0
    corners_ijk[:, a] = [low[0], high[0], high[0], low[0]]
    corners_ijk[:, b] = [low[1], low[1], high[1], high[1]]
    corners = corners_ijk @ geometry.ijkToRas(volume).T
    return tuple(tuple(map(float, corner[:3])) for corner in corners)


def a_finding(volume, label, slices, low, high, plane="axial", score=0.9):
    """A Finding with the same box on each of `slices`."""
    axis = geometry.sliceAxis(volume, plane)
    boxes = tuple(
        answers.Box(label, k, score, corners_ras(volume, axis, k, low, high)) for k in slices
    )
    low_ijk, high_ijk = (np.insert(np.array(edge, float), axis, 0.0) for edge in (low, high))
    low_ijk[axis], high_ijk[axis] = slices[0] - 0.5, slices[-1] + 0.5
    matrix = geometry.ijkToRas(volume)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    axes = matrix[:3, :3] / spacing
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    center = matrix @ [*(low_ijk + high_ijk) / 2, 1.0]
    return answers.Finding(
        label=label,
        score=score,
        slices=(slices[0], slices[-1]),
        center_ras=tuple(center[:3]),
        size_mm=tuple((high_ijk - low_ijk) * spacing),
        axes_ras=tuple(map(tuple, axes)),
        boxes=boxes,
    )


def a_grounding(*findings, plane="axial", absent=()):
    return answers.Grounding("bird-mini", plane, None, tuple(findings), tuple(absent))


def as_json(grounding):
    """A Grounding as the server writes it."""
    return {
        "volume": {},
        "model": grounding.model,
        "plane": grounding.plane,
        "window": grounding.window,
        "absent": list(grounding.absent),
        "timing_s": {},
        "findings": [_finding_json(finding) for finding in grounding.findings],
    }


def _finding_json(finding):
    roi = {name: getattr(finding, name) for name in ("center_ras", "size_mm", "axes_ras")}
    return {
        "label": finding.label,
        "score": finding.score,
        "slices": finding.slices,
        "roi": roi,
        "boxes": [box_json(box) for box in finding.boxes],
    }


def box_json(box):
    return {
        "label": box.label,
        "slice": box.slice,
        "score": box.score,
        "box_pixel": [0, 0, 1, 1],
        "corners_ras": box.corners_ras,
    }
