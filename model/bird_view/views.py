"""Slicer's views of one volume: three slice views and a 3D view.

Knows nothing about findings or the page around them.
"""

from __future__ import annotations

from slicer import vtkMRMLVolumeNode
from trame_server import Server
from trame_slicer.core import LayoutManager, SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import Layout, LayoutDirection, ViewLayoutDefinition

_LAYOUT = "BiRD"
_TURNED_DEG, _RAISED_DEG = 35.0, 20.0  # the 3D view at first, from the front


def make_views(app: SlicerApp, server: Server) -> LayoutManager:
    """Axial and 3D on top, coronal and sagittal below."""
    register_rca_factories(app.view_manager, server)
    layout = LayoutManager(app.scene, app.view_manager, server)
    axial, coronal = ViewLayoutDefinition.axial_view(), ViewLayoutDefinition.coronal_view()
    sagittal, space = ViewLayoutDefinition.sagittal_view(), ViewLayoutDefinition.threed_view()
    columns = [
        Layout(LayoutDirection.Vertical, [axial, coronal]),
        Layout(LayoutDirection.Vertical, [space, sagittal]),
    ]
    layout.register_layout(_LAYOUT, Layout(LayoutDirection.Horizontal, columns))
    layout.set_layout(_LAYOUT)
    return layout


def show(app: SlicerApp, volume: vtkMRMLVolumeNode) -> None:
    """Puts a volume into all slice views, fitted, and the axial slice into the 3D view."""
    for view in app.view_manager.get_slice_views():
        view.set_background_volume_id(volume.GetID())
        view.set_visible_in_3d(view.get_orientation() == "Axial")
    for view in app.view_manager.get_views():
        view.reset_view()
    for view in app.view_manager.get_threed_views():
        camera = view.get_camera_node().GetCamera()
        camera.Azimuth(_TURNED_DEG)
        camera.Elevation(_RAISED_DEG)
        view.renderer().ResetCameraClippingRange()
