"""Moving one finding's 3D box by hand: its handles come out, and go in again.

Knows nothing about what a changed box means for the review.
"""

from .findings import Findings
from .places import same_place


class Handles:
    """At most one finding of a scene is being moved."""

    def __init__(self, scene):
        self._findings = Findings(scene)
        self._table = self._key = self._before = None

    @property
    def key(self):
        """Of the finding whose handles are out, or None."""
        return self._key

    def start(self, table, key):
        """Shows the handles of a finding's ROI, in 3D and in slice views. True where it has one."""
        self.stop()
        roi = self._findings.rois(table).get(key)
        if roi is None:
            return False
        self._table, self._key = table, key
        self._before = self._findings.place(table, key)
        _showHandles(roi, True)
        return True

    def stop(self):
        """Hides them; (table, key, Place before) where the box was moved meanwhile, else None."""
        table, key, before = self._table, self._key, self._before
        self._table = self._key = self._before = None
        if table is None or table.GetScene() is None:
            return None
        roi = self._findings.rois(table).get(key)
        if roi is None:
            return None
        _showHandles(roi, False)
        moved = not same_place(before, self._findings.place(table, key))
        return (table, key, before) if moved else None

    def cancel(self):
        """Hides them and puts the box back."""
        moved = self.stop()
        if moved is not None:
            table, key, before = moved
            self._findings.setPlace(table, key, before)


def _showHandles(roi, out):
    display = roi.GetDisplayNode()
    display.SetHandlesInteractive(out)
    display.SetVisibility2D(out)
    display.SetGlyphScale(3.0 if out else 0.0)
