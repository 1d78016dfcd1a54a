"""Slicer's views of one volume: three slice views and a 3D view.

Knows nothing about findings or the page around them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from slicer import vtkMRMLVolumeNode
from trame_server import Server
from trame_slicer.app.ui import (
    create_vertical_slice_view_gutter_ui,
    create_vertical_view_gutter_ui,
)
from trame_slicer.core import LayoutManager, SlicerApp
from trame_slicer.rca_view import RemoteViewFactory
from trame_slicer.views import (
    AbstractView,
    Layout,
    LayoutDirection,
    SliceView,
    ThreeDView,
    ViewLayoutDefinition,
    ViewType,
)
from trame_slicer.views.render_scheduler import NoScheduleRendering

_LAYOUT = "BiRD"
_UNFOCUSED_FPS = 10.0  # of a view without the mouse
_TURNED_DEG, _RAISED_DEG = 35.0, 20.0  # the 3D view at first, from the front


def make_views(app: SlicerApp, server: Server) -> LayoutManager:
    """Axial and 3D on top, coronal and sagittal below."""
    for kind, view, buttons in (
        (ViewType.SLICE_VIEW, SliceView, create_vertical_slice_view_gutter_ui),
        (ViewType.THREE_D_VIEW, ThreeDView, create_vertical_view_gutter_ui),
    ):
        made = partial(_unseen, view)
        factory = RemoteViewFactory(
            server, made, kind, populate_view_ui_f=buttons, blur_fps=_UNFOCUSED_FPS
        )
        app.view_manager.register_factory(factory)
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


def _unseen(view: type[AbstractView], **given: Any) -> AbstractView:
    """A view that draws nothing until a browser shows it: hundreds of pictures fewer at start."""
    return view(scheduled_render_strategy=NoScheduleRendering(), **given)
