"""Findings for other modules: a bounding ROI for Crop Volume, a .mrk.json file.

Knows nothing about reviews or HTTP.
"""

import json
import os
import tempfile

import numpy as np
import slicer

from . import scene as geometry
from .errors import UnusableInput
from .findings import Findings
from .i18n import tr as _

MARGIN_MM = 10.0


def crop_roi(scene, volume, keys, margin_mm=MARGIN_MM):
    """(ROI node, vtkMRMLCropVolumeParametersNode) around findings, ready for Crop Volume.

    The ROI lies along the volume's own axes and ends where the volume does.
    """
    rois = _rois(scene, volume, keys)
    bounds = [geometry.boundsOfRoi(volume, roi) for roi in rois]
    axes_ras = bounds[0][2]
    along = [np.array(center) @ axes_ras for center, _, _ in bounds]
    low = np.min([c - size / 2 for c, (_, size, _) in zip(along, bounds)], axis=0)  # noqa: B905
    high = np.max([c + size / 2 for c, (_, size, _) in zip(along, bounds)], axis=0)  # noqa: B905
    center_ras = axes_ras @ ((low + high) / 2)
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("Crop of {}").format(volume.GetName()))
    roi.CreateDefaultDisplayNodes()
    roi.GetDisplayNode().SetFillVisibility(False)
    geometry.placeRoi(roi, volume, center_ras, high - low + 2 * margin_mm, axes_ras)
    geometry.placeRoi(roi, volume, *geometry.boundsOfRoi(volume, roi))  # clipped to the volume
    return roi, _parameters(scene, volume, roi)


def write_markups(scene, volume, keys, path):
    """Writes the findings' ROIs to one .mrk.json that Slicer loads, in the volume's own space."""
    markups, document = [], {}
    with tempfile.TemporaryDirectory(prefix="BiRD-") as folder:
        for n, roi in enumerate(_rois(scene, volume, keys)):
            document = _written(roi, os.path.join(folder, "{}.mrk.json".format(n)))
            markups += document["markups"]
    try:
        with open(str(path), "w", encoding="utf-8") as stream:
            json.dump(dict(document, markups=markups), stream, indent=1)
    except OSError as error:
        raise UnusableInput(_("{} cannot be written: {}.").format(path, error.strerror)) from error


def _written(roi, path):
    storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
    storage.SetFileName(path)
    if not storage.WriteData(roi):
        raise UnusableInput(_("{} cannot be written.").format(roi.GetName()), _("Free some disk."))
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def _rois(scene, volume, keys):
    findings = Findings(scene)
    table = findings.table(volume) if volume is not None else None
    rois = {} if table is None else findings.rois(table)
    chosen = [rois[key] for key in keys if key in rois]
    if not chosen:
        raise UnusableInput(_("No finding is chosen."), _("Accept or select some first."))
    return chosen


def _parameters(scene, volume, roi):
    parameters = slicer.vtkMRMLCropVolumeParametersNode()
    parameters.SetName(scene.GenerateUniqueName(_("Crop for BiRD")))
    scene.AddNode(parameters)
    parameters.SetInputVolumeNodeID(volume.GetID())
    parameters.SetROINodeID(roi.GetID())
    return parameters
