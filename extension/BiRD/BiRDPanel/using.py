"""The tab "Use": accepted findings for segmentations, Crop Volume and files."""

import qt
from slicer.i18n import tr as _

from BiRDLib.errors import UnusableInput
from BiRDLib.handover import crop_roi, write_markups
from BiRDLib.segments import add_segments
from BiRDLib.statuses import KEPT

from .section import Section, enable


class Using(Section):
    """Works on what is selected in the list, or on all that was accepted."""

    def __init__(self, panel, reviewing):
        super().__init__(panel)
        self._reviewing = reviewing
        self.ui.segmentsButton.clicked.connect(self.onSegments)
        self.ui.cropButton.clicked.connect(self.onCrop)
        self.ui.saveMarkupsButton.clicked.connect(self.onSaveMarkups)

    def update(self):
        keys = self._keys()
        self.ui.usedLabel.text = _("{n} accepted or edited findings").format(n=len(keys))
        for name, tip in _TIPS.items():
            reason = _("Accept findings in the tab Review first.")
            enable(getattr(self.ui, name), bool(keys), reason, tip)

    def onSegments(self, *ignored):
        parameters = self.parameters
        try:
            node, segment_ids = add_segments(
                self.panel.scene,
                self.volume,
                self._keys(),
                parameters.segmentation,
                parameters.fill,
            )
        except UnusableInput as error:
            self.panel.log(error.advice)
            return
        parameters.segmentation = node
        self.panel.log(_("{n} new segments in {name}.").format(
            n=len(segment_ids), name=node.GetName()
        ))  # fmt: skip

    def onCrop(self, *ignored):
        try:
            roi, node = crop_roi(self.panel.scene, self.volume, self._keys())
        except UnusableInput as error:
            self.panel.log(error.advice)
            return
        self.panel.log(_("{roi} is ready: choose {node} in the module Crop Volume.").format(
            roi=roi.GetName(), node=node.GetName()
        ))  # fmt: skip

    def onSaveMarkups(self, *ignored):
        path = chosen_file(_("Save findings"), "findings.mrk.json", _("Markups (*.mrk.json)"))
        if path and self.attempt(write_markups, self.panel.scene, self.volume, self._keys(), path):
            self.panel.log(_("Written: {path}").format(path=path))

    def _keys(self):
        lines = self._reviewing.review.lines(self.volume)
        return [line.key for line in lines if line.status in KEPT]


_TIPS = {
    "segmentsButton": _("A new segment per accepted finding; nothing is overwritten"),
    "cropButton": _("An ROI around all accepted findings, set up in the module Crop Volume"),
    "saveMarkupsButton": _("All accepted findings in one file that Slicer loads"),
}


def chosen_file(title, name, kinds):
    """The path that the user chooses for a file to write, or an empty text."""
    return qt.QFileDialog.getSaveFileName(None, title, name, kinds)
