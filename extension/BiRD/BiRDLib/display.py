"""Which findings show: a threshold for what is undecided, none of what was rejected.

Works on the visibility of the findings' ROIs, which slice views follow (slicepool.py). What the
user hid by hand stays hidden: what is hidden from here carries a mark. Knows nothing about
lists, Qt or HTTP.
"""

from .findings import Findings
from .statuses import least_score

_HIDDEN = "BiRD.hidden"


class Display:
    """The findings of one scene, shown from a score on."""

    def __init__(self, scene, pool):
        self.threshold = 0.0
        self._findings = Findings(scene)
        self._pool = pool

    def showFrom(self, threshold):
        """Undecided findings and boxes with a score, 0..1, below this are hidden at once."""
        self.threshold = threshold
        self.apply()

    def apply(self):
        """Shows and hides anew, after statuses or tables have changed."""
        with self._pool.held():
            for table in self._findings.tables():
                self._applyTo(table)
            self._pool.showFrom(self.threshold)

    def favour(self, key):
        """Where too many boxes would show, this finding's do."""
        self._pool.favour(key)

    def _applyTo(self, table):
        rois = self._findings.rois(table)
        for line in self._findings.lines(table):
            if line.key in rois:
                least = least_score(line.status, self.threshold)
                _show(rois[line.key], least is not None and line.score >= least)


def _show(roi, wanted):
    display = roi.GetDisplayNode()
    if wanted and display.GetAttribute(_HIDDEN):
        display.RemoveAttribute(_HIDDEN)
        display.SetVisibility(True)
    elif not wanted and display.GetVisibility():
        display.SetAttribute(_HIDDEN, "by BiRD")
        display.SetVisibility(False)
