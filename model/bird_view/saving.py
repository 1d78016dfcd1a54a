"""What the user takes along: the server's report, the accepted boxes as Slicer's markups.

Gives the browser contents of files; knows nothing about widgets.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bird_view.BiRDLib.caseroom import CaseRoom
from bird_view.BiRDLib.errors import BirdError, NotFound
from bird_view.BiRDLib.handover import write_markups
from bird_view.BiRDLib.statuses import KEPT
from bird_view.section import Section

if TYPE_CHECKING:
    from slicer import vtkMRMLVolumeNode

    from bird_view.BiRDLib.answers import Health
    from bird_view.viewer import Viewer


class Saving(Section):
    """Works on what was accepted or edited."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        scene, display = viewer.app.scene, viewer.core.display
        self._room = CaseRoom(scene, viewer.core, display, viewer.app.io_manager.load_volumes)

    def connected(self, health: Health) -> None:
        """Brings what the server knows of this scan from an earlier time, where it is ours."""
        if not self.page.remote:
            self._room.fetch(self.volume, self._fetched, self._not_fetched)

    def update(self) -> None:
        self.page.kept = len(self._kept())

    async def report(self) -> str:
        """The server's report of the scan, HTML; empty where there is none, which the log tells."""
        with tempfile.TemporaryDirectory(prefix="BiRD-") as folder:
            path = Path(folder, "report.html")
            written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

            def failed(error: BirdError) -> None:
                self.failed(error)
                written.set_result(False)

            def done(_path: Path) -> None:
                written.set_result(True)

            self._room.export(self.volume, "html", path, done, failed)
            self.viewer.update()
            there = await written
            self.viewer.update()
            return path.read_text(encoding="utf-8") if there else ""

    def markups(self) -> str:
        """The kept findings as one .mrk.json; empty where there are none, which the log tells."""
        with tempfile.TemporaryDirectory(prefix="BiRD-") as folder:
            path = Path(folder, "findings.mrk.json")
            arguments = (self.viewer.app.scene, self.volume, self._kept(), path)
            if not self.attempt(write_markups, *arguments):
                return ""
            return path.read_text(encoding="utf-8")

    def _kept(self) -> list[str]:
        table = self.core.findings.table(self.volume)
        lines = self.core.findings.lines(table) if table is not None else []
        return [line.key for line in lines if line.status in KEPT]

    def _fetched(self, volume: vtkMRMLVolumeNode) -> None:
        count = len(self.viewer.reviewing.review.lines(volume))
        self.viewer.log(f"{count} findings of an earlier time.")
        self.viewer.update()

    def _not_fetched(self, error: BirdError) -> None:
        if not isinstance(error, NotFound):  # nobody has asked about this scan before
            self.failed(error)
        self.viewer.update()
