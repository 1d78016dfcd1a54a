"""Findings as segments: always new ones, so nothing that was there is ever overwritten.

Knows nothing about reviews or HTTP.
"""

import slicer

from . import scene as geometry
from .colors import label_color
from .errors import UnusableInput
from .findings import Findings
from .i18n import tr as _
from .rasters import grow_in, labelmap, patch_of_corners, patch_of_place, threshold_in

FILLS = ("box", "threshold in the box", "grow from seeds in the box")
_NARROWED = {FILLS[1]: threshold_in, FILLS[2]: grow_in}
_FINDING = "BiRD.finding"  # tag of a segment: which finding it was made from


def add_segments(scene, volume, keys, target=None, fill=FILLS[0]):
    """A new segment per finding, in `target` or in a segmentation of their own.

    Returns (vtkMRMLSegmentationNode, segment IDs). A finding whose box nobody moved is filled as
    its slice boxes stand, any other as its 3D box. Each segment has a layer of its own. Raises
    UnusableInput, before anything is changed.
    """
    findings = Findings(scene)
    table = findings.table(volume)
    if table is None or not keys:
        raise UnusableInput(_("No finding is chosen."), _("Accept or select some first."))
    _check_target(volume, target)
    made = [(findings.row(table, key), _patch(findings, table, volume, key, fill)) for key in keys]
    node = target or _new_segmentation(scene, volume)
    segment_ids = [_add_segment(node, volume, row, patch) for row, patch in made]
    return node, segment_ids


def _patch(findings, table, volume, key, fill):
    rows = [row for row in findings.rows(table) if row.finding == key]
    place = findings.place(table, key)
    if place is not None and (key in findings.moved(table) or not rows[0].model):
        patch = patch_of_place(volume, place)
    else:
        patch = patch_of_corners(volume, [row.corners_ras for row in rows])
    return _NARROWED[fill](volume, patch) if fill in _NARROWED else patch


def _check_target(volume, target):
    if target is not None and not geometry.moveAlike(target, volume):
        raise UnusableInput(
            _("{} and {} are under different transforms.").format(
                target.GetName(), volume.GetName()
            ),
            _("Put both under the same one, or choose a new segmentation."),
        )


def _new_segmentation(scene, volume):
    name = _("BiRD segments of {}").format(volume.GetName())
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    geometry.moveTogether(node, volume)
    return node


def _add_segment(node, volume, row, patch):
    segmentation = node.GetSegmentation()
    segment = slicer.vtkSegment()
    segment.SetName(_free_name(segmentation, row.label))
    segment.SetColor(*label_color(row.label))
    segment.SetTag(_FINDING, "{} {}".format(row.finding, row.model or "by hand"))
    kind = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segment.AddRepresentation(kind, labelmap(volume, patch))
    segment_id = segmentation.GenerateUniqueSegmentID(row.label.replace(" ", "_"))
    segmentation.AddSegment(segment, segment_id)
    return segment_id


def _free_name(segmentation, label):
    count = segmentation.GetNumberOfSegments()
    taken = {segmentation.GetNthSegment(n).GetName() for n in range(count)}
    names = (label if n == 1 else "{} {}".format(label, n) for n in range(1, count + 2))
    return next(name for name in names if name not in taken)
