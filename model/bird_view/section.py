"""What every section of the page has: the state, the logic, a way to tell the user.

Knows nothing about any one section, nor about widgets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bird_view.BiRDLib.errors import BirdError, Cancelled

if TYPE_CHECKING:
    from slicer import vtkMRMLVolumeNode

    from bird_view.BiRDLib.answers import Health
    from bird_view.BiRDLib.logic import Logic
    from bird_view.page_state import Page
    from bird_view.viewer import Viewer


class Section:
    """A part of the page."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    @property
    def core(self) -> Logic:
        return self.viewer.core

    @property
    def volume(self) -> vtkMRMLVolumeNode:
        return self.viewer.volume

    @property
    def page(self) -> Page:
        return self.viewer.page

    def connected(self, health: Health) -> None:
        """A server has said hello."""

    def update(self) -> None:
        """The page follows what is there now; called after every change."""

    def attempt(self, work: Callable[..., Any], *arguments: Any) -> bool:
        """Runs `work` at once and tells its BirdError in the log; True where there was none."""
        try:
            work(*arguments)
        except BirdError as error:
            self.viewer.log(error.advice)
            return False
        return True

    def failed(self, error: BirdError) -> None:
        """A question came to nothing."""
        self.viewer.progress(0.0, "" if isinstance(error, Cancelled) else "Failed")
        self.viewer.log(error.advice)
        self.viewer.update()
