"""What a slice view shows of boxes: where the view's plane meets each, with words in a colour.

World positions. Knows nothing about findings, nor about what draws it.
"""

from collections import namedtuple

import numpy as np

_ROOM = 0.2  # of the view's width; left of that, words to the left would leave the view
_CUTTING = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1]
_STARTS, _ENDS = np.array(_CUTTING).T  # the 12 edges of a box whose corners count in binary

Outline = namedtuple("Outline", "words color around")  # around (k, 3): corners, one after another


class Outlines:
    """Outlines of one view, in arrays: a view is drawn anew for every slice.

    `words`, `colors` ((r, g, b) in 0..1) and `around` ((k, 3), k > 2) have an entry for each.
    """

    def __init__(self, words, colors, around):
        self.words = words
        self.colors = colors
        self.counts = np.array([len(corners) for corners in around], dtype=np.int64)
        self.points = np.concatenate([np.zeros((0, 3)), *around])  # (all corners, 3)
        self.starts = np.cumsum(self.counts) - self.counts  # where in `points` each begins

    def __len__(self):
        return len(self.words)

    def __iter__(self):
        around = np.split(self.points, self.starts[1:])
        return (Outline(*parts) for parts in zip(self.words, self.colors, around))  # noqa: B905

    def anchors(self, frame):
        """(positions (n, 3), leftwards (n,)): where words start above their outlines, or end.

        On the view's left half they run leftwards from the right corner where there is room, so
        that the words of a left and a right organ do not meet.
        """
        across, up = ((self.points - frame.middle) @ frame.axes[:, :2]).T
        left = np.minimum.reduceat(across, self.starts)
        right = np.maximum.reduceat(across, self.starts)
        top = np.maximum.reduceat(up, self.starts)
        leftwards = (left + right < 0) & (right > -_ROOM * frame.width_mm)
        in_view = np.column_stack([np.where(leftwards, right, left), top])
        return frame.middle + in_view @ frame.axes[:, :2].T, leftwards


def cut(corners, frame):
    """Where a view's plane meets a box: corners (k, 3), k in 3..6, around the middle of the cut.

    `corners` (8, 3) count in binary, the last axis of the box fastest. The plane must cut the box.
    """
    distance = (corners - frame.middle) @ frame.axes[:, 2]
    crossed = (distance[_STARTS] <= 0) != (distance[_ENDS] <= 0)
    starts, ends = _STARTS[crossed], _ENDS[crossed]
    share = (distance[starts] / (distance[starts] - distance[ends]))[:, None]
    points = corners[starts] + share * (corners[ends] - corners[starts])
    right, up = ((points - points.mean(axis=0)) @ frame.axes[:, :2]).T
    return points[np.argsort(np.arctan2(up, right))]
