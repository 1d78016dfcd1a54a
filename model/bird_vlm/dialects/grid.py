"""The units that a family counts positions in: its numbers <-> norm boxes.

Knows nothing about text beyond quoting it in errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bird_vlm.boxes import NORM_MAX, BoxNorm, pixel_to_norm
from bird_vlm.errors import GrammarError

_SLACK = 1  # units that a number may lie outside of the picture; it is moved to the border


@dataclass(frozen=True)
class Grid:
    """Numbers from 0 at the left or top border to `across` or `down` at the opposite one."""

    across: int
    down: int
    y_first: bool = False  # y0, x0, y1, x1 instead of x0, y0, x1, y1

    def read(self, numbers: Sequence[float], text: str) -> BoxNorm:
        """The nearest norm box, one unit wide and high at least.

        Raises GrammarError, with `text` in it, unless there are four numbers within one unit of
        the picture, the first corner above and left of the second.

        >>> Grid(1023, 1023, y_first=True).read((0, 512, 1023, 1023), "")
        (500, 0, 1000, 1000)
        """
        if len(numbers) != 4:
            raise GrammarError(f"answer: box {numbers} is not of 4 numbers in {text!r}")
        x0, y0, x1, y1 = self._ordered(*numbers)
        x_most, y_most = self.across + _SLACK, self.down + _SLACK
        inside = all(-_SLACK <= x <= x_most for x in (x0, x1))  # false for NaN
        if not (inside and all(-_SLACK <= y <= y_most for y in (y0, y1))):
            raise GrammarError(
                f"answer: box {numbers} exceeds the {self.across} x {self.down} units of the "
                f"picture in {text!r}"
            )
        x0, x1 = max(x0, 0), min(x1, self.across)
        y0, y1 = max(y0, 0), min(y1, self.down)
        if x1 <= x0 or y1 <= y0:
            raise GrammarError(f"answer: box {numbers} is empty or has swapped corners in {text!r}")
        return pixel_to_norm((x0, y0, x1, y1), self.across, self.down)

    def write(self, box_norm: BoxNorm) -> tuple[int, int, int, int]:
        """The nearest whole numbers, in this family's order, one unit wide and high at least.

        >>> Grid(28, 924).write((500, 0, 501, 1000))
        (14, 0, 15, 924)
        """
        x0, y0, x1, y1 = box_norm
        x0, x1 = _span(x0, x1, self.across)
        y0, y1 = _span(y0, y1, self.down)
        return self._ordered(x0, y0, x1, y1)

    def _ordered(self, a: float, b: float, c: float, d: float) -> tuple:
        return (b, a, d, c) if self.y_first else (a, b, c, d)


def _span(low: int, high: int, length: int) -> tuple[int, int]:
    start, stop = round(low * length / NORM_MAX), round(high * length / NORM_MAX)
    if stop <= start:  # the unit that holds the middle
        start = (low + high) * length // (2 * NORM_MAX)
        stop = start + 1
    return start, stop
