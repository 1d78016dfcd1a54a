"""Slice views: where they stand, what they show, which slices of a volume they meet.

Only reads the views, and scrolls them when asked. Knows nothing about findings or HTTP.
"""

from collections import namedtuple

import numpy as np
import slicer

from .errors import UnusableInput
from .i18n import tr as _
from .scene import positionsIjk, shapeIjk, sliceAxis, sliceNormalWorld, sliceUnder, viewMatrices

# Where a slice view stands, in world: its middle, its axes (3, 3; the columns are the unit vectors
# towards the right edge, towards the top edge and out of the picture), width and height in mm,
# pixels_to_world (4, 4), and how much its words are magnified: views on screens with small pixels
# have many.
Frame = namedtuple("Frame", "middle axes width_mm height_mm pixels_to_world magnified")
_USUAL_EDGE, _MOST_MAGNIFIED = 600, 2.5  # pixels; times


def currentSlice(scene, volume, plane):
    """Index of the `plane` slice that the user looks at.

    It is the slice in the middle of the slice view that faces the plane best (one that shows the
    volume before one that does not), or the one under the crosshair where no view does.
    """
    normal = sliceNormalWorld(volume, plane)
    views = [view for view in sliceViews(scene) if view.IsMappedInLayout()]
    facing = [
        (volume.GetID() in shownVolumeIds(view), abs(sliceFrame(view).axes[:, 2] @ normal), view)
        for view in views
    ]
    facing = [entry for entry in facing if entry[1] > np.sqrt(0.5)]
    if facing:
        view = max(facing, key=lambda entry: entry[:2])[2]
        return sliceUnder(volume, plane, sliceFrame(view).middle)
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is None:
        raise UnusableInput(
            _("No slice view shows the {} plane.").format(plane), _("Ask about the whole volume.")
        )
    return sliceUnder(volume, plane, crosshair.GetCrosshairRAS())


def visibleSlices(scene, volume, plane):
    """(first, last + 1) of the `plane` slices that lie within the views that cut across them."""
    normal = sliceNormalWorld(volume, plane)
    frames = [sliceFrame(view) for view in sliceViews(scene) if view.IsMappedInLayout()]
    across = [frame for frame in frames if abs(frame.axes[:, 2] @ normal) < np.sqrt(0.5)]
    if not across:
        raise UnusableInput(
            _("No view cuts across the {} slices.").format(plane),
            _("Choose a layout with other planes, or ask about the whole volume."),
        )
    corners = np.vstack([_corners(frame) for frame in across])
    along = positionsIjk(volume, corners)[:, sliceAxis(volume, plane)]
    first, last = np.clip(np.floor(along + 0.5)[[along.argmin(), along.argmax()]].astype(int),
                          0, shapeIjk(volume)[sliceAxis(volume, plane)] - 1)  # fmt: skip
    return int(first), int(last) + 1


def sliceViews(scene):
    """All slice nodes of the scene."""
    nodes = scene.GetNodesByClass("vtkMRMLSliceNode")
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]


def sliceFrame(view):
    """Frame of a slice view."""
    width, height = view.GetDimensions()[:2]
    xy_to_ras, slice_to_ras = viewMatrices(view)
    middle = xy_to_ras @ [width / 2.0, height / 2.0, 0.0, 1.0]
    axes = slice_to_ras[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    magnified = min(max(1.0, min(width, height) / _USUAL_EDGE), _MOST_MAGNIFIED)
    return Frame(middle[:3], axes, *view.GetFieldOfView()[:2], xy_to_ras, magnified)


def layersOf(view):
    """The vtkMRMLSliceCompositeNode of a slice view, or None before it has one."""
    return slicer.vtkMRMLSliceLogic.GetSliceCompositeNode(view)


def shownVolumeIds(view):
    """IDs of the volumes in a slice view's layers."""
    composite = layersOf(view)
    if composite is None:
        return set()
    shown = (
        composite.GetBackgroundVolumeID(),
        composite.GetForegroundVolumeID(),
        composite.GetLabelVolumeID(),
    )
    return {volume_id for volume_id in shown if volume_id}


def jumpTo(scene, roi):
    """Scrolls all slice views to the middle of an ROI."""
    middle = [0.0, 0.0, 0.0]
    roi.GetCenterWorld(middle)
    jumpToPosition(scene, middle)


def jumpToPosition(scene, position_world):
    """Scrolls all slice views to a world position; none is panned or turned."""
    offset = slicer.vtkMRMLSliceNode.OffsetJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *map(float, position_world), offset)


def _corners(frame):
    """The corners (4, 3) of a view's picture, world."""
    halves = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2.0
    sides = frame.axes[:, :2] * [frame.width_mm, frame.height_mm]
    return frame.middle + halves @ sides.T
