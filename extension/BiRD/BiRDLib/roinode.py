"""The ROI node of a finding: an outline in 3D views, in the colour of its label.

Slice views get theirs from the pool (slicepool.py). Knows nothing about tables or folders.
"""

from . import scene as geometry
from .colors import label_color

FINDING = "BiRD.finding"  # attribute of an ROI: the key its rows carry
VOLUME = "BiRD.volume"  # node reference role, from table and ROI to the volume


def addRoi(scene, volume, finding, key, model):
    """The ROI node of an answers.Finding, added to the scene; `key` is that of its rows."""
    roi = scene.CreateNodeByClass("vtkMRMLMarkupsROINode")
    roi.UnRegister(None)
    modifying = roi.StartModify()  # nobody sees it before it is complete
    roi.SetAttribute(FINDING, key)
    geometry.placeRoi(roi, volume, finding.center_ras, finding.size_mm, finding.axes_ras)
    _name(roi, finding.label, finding.score, model)
    scene.AddNode(roi)
    roi.SetNodeReferenceID(VOLUME, volume.GetID())
    roi.CreateDefaultDisplayNodes()
    _style(roi.GetDisplayNode())
    _paint(roi, finding.label)
    roi.EndModify(modifying)
    return roi


def relabel(roi, label, score, model):
    """The finding is another thing than thought."""
    _name(roi, label, score, model)
    _paint(roi, label)


def _paint(roi, label):
    """Gives an ROI the colour of a label, selected or not."""
    color = label_color(label)
    roi.GetDisplayNode().SetSelectedColor(*color)
    roi.GetDisplayNode().SetColor(*color)


def _name(roi, label, score, model):
    roi.SetName("{} {:.2f}".format(label, score))
    roi.SetNthControlPointLabel(0, label)
    roi.SetNthControlPointDescription(0, "{:.3f} by {}".format(score, model or "hand"))


def _style(display):
    display.SetVisibility2D(False)
    display.SetFillVisibility(False)
    display.SetHandlesInteractive(False)
    display.SetGlyphScale(0.0)
    display.SetPropertiesLabelVisibility(True)
