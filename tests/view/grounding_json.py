"""Answers of a server to where things are in `a_scan`, as JSON. Test helper.

Boxes are given in voxels, so that a test can say where they must show.
"""

import numpy as np

SHAPE_IJK = (60, 50, 12)
IJK_TO_RAS = np.array([[-2.0, 0, 0, 60], [0, -2, 0, 50], [0, 0, 5, -30], [0, 0, 0, 1]])


def a_box(label, index, low_ij, high_ij, score=0.9):
    """A box on axial slice `index`; `low_ij`, `high_ij` are its outer edges."""
    (i0, j0), (i1, j1) = low_ij, high_ij
    corners_ijk = np.array([[i0, j0], [i1, j0], [i1, j1], [i0, j1]])
    corners = np.column_stack([corners_ijk, np.full(4, index), np.ones(4)]) @ IJK_TO_RAS.T
    return {
        "label": label,
        "slice": index,
        "score": score,
        "box_pixel": [i0, j0, i1, j1],
        "corners_ras": corners[:, :3].tolist(),
    }


def a_finding(boxes):
    """The boxes of neighbouring slices as one finding."""
    corners = np.concatenate([box["corners_ras"] for box in boxes])
    low, high = corners.min(axis=0), corners.max(axis=0)
    low[2], high[2] = low[2] - 2.5, high[2] + 2.5
    return {
        "label": boxes[0]["label"],
        "score": max(box["score"] for box in boxes),
        "slices": [boxes[0]["slice"], boxes[-1]["slice"]],
        "roi": {
            "center_ras": ((low + high) / 2).tolist(),
            "size_mm": (high - low).tolist(),
            "axes_ras": np.eye(3).tolist(),
        },
        "boxes": boxes,
    }


def a_grounding(*findings, absent=()):
    """`findings`: lists of boxes."""
    return {
        "volume": {},
        "model": "bird-mini",
        "plane": "axial",
        "window": None,
        "absent": list(absent),
        "timing_s": {},
        "findings": [a_finding(boxes) for boxes in findings],
    }
