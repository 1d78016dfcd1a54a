"""One scan, its views and what the page can do with them: puts the sections together.

Knows nothing about widgets (widgets.py) or processes (run.py).
"""

from __future__ import annotations

from pathlib import Path

from trame_server import Server
from trame_server.utils.asynchronous import get_event_loop
from trame_server.utils.typed_state import TypedState
from trame_slicer import module as trame_slicer_module
from trame_slicer.core import SlicerApp

from bird_view.asking import Asking
from bird_view.BiRDLib.answers import Health
from bird_view.BiRDLib.logic import Logic
from bird_view.connecting import Connecting
from bird_view.event_loop import LoopBackground
from bird_view.page_state import Page
from bird_view.reviewing import Reviewing
from bird_view.saving import Saving
from bird_view.scan import load_scan
from bird_view.servers import OwnServer, RunningServer
from bird_view.views import make_views, show

_KEPT_WORDS = 50


class Viewer:
    """Everything behind one page; `server` is a trame server that does not run yet."""

    def __init__(self, server: Server, scan: Path, chosen: RunningServer | OwnServer) -> None:
        """Raises BiRDLib's UnusableInput for a scan that cannot be shown."""
        server.enable_module(trame_slicer_module)
        self.server = server
        self.app = SlicerApp()
        self.typed = TypedState(server.state, Page)
        self.page = self.typed.data
        self.volume = load_scan(self.app, scan)
        self.page.scan = self.volume.GetName()
        self.layout = make_views(self.app, server)
        show(self.app, self.volume)
        self.core = Logic(self.app.scene, LoopBackground(get_event_loop(), server.state))
        self.connecting = Connecting(self, chosen)
        self.asking = Asking(self)
        self.reviewing = Reviewing(self)
        self.saving = Saving(self)
        self.sections = (self.connecting, self.asking, self.reviewing, self.saving)
        self._follow_typing()
        self._offer_actions()
        self.update()

    def cancel(self) -> None:
        """Stops what is being waited for."""
        self.core.cancel()
        self.connecting.cancel()
        self.progress(0.0, "Cancelling ...")

    def close(self) -> None:
        """Ends the server where it is ours; the views draw no more."""
        for view in self.app.view_manager.get_views():
            view.set_render_blocked(True)
        self.reviewing.review.forget()
        self.core.close()
        self.connecting.close()

    def connected(self, health: Health) -> None:
        """A server has said hello."""
        self.progress(0.0, "")
        for section in self.sections:
            section.connected(health)
        self.update()

    def update(self) -> None:
        """The page follows what is there now."""
        for section in self.sections:
            section.update()

    def on_scene_event(self) -> None:
        """As `update`, from where no browser has asked."""
        with self.server.state:
            self.update()

    def progress(self, fraction: float, words: str) -> None:
        self.page.percent = round(100 * fraction)
        self.page.doing = words

    def log(self, words: str) -> None:
        self.page.log = [*self.page.log, words][-_KEPT_WORDS:]

    def _follow_typing(self) -> None:
        name = self.typed.name
        self.typed.bind_changes(
            {
                name.labels: lambda labels: self.update(),
                name.plane: lambda plane: self.update(),
                name.extent: lambda extent: self.update(),
                name.allow_remote: self.connecting.allow_remote,
                name.show_from: self.reviewing.show_from,
                name.reviewer: self.reviewing.rename_reviewer,
            }
        )

    def _offer_actions(self) -> None:
        """What the page's buttons call, by name."""
        offered = (
            *(self.connecting.connect, self.cancel),
            *(self.asking.ground, self.asking.refer, self.asking.draw, self.asking.adjust),
            *(self.reviewing.select, self.reviewing.step, self.reviewing.sort),
            *(self.reviewing.accept, self.reviewing.reject, self.reviewing.reopen),
            *(self.reviewing.undo, self.reviewing.redo),
            *(self.saving.report, self.saving.markups),
        )
        for action in offered:
            self.server.trigger(action.__name__)(action)
