"""Reviewing the findings of the scene: decide, see the outcome, have the server told.

Knows nothing about Qt or HTTP; `on_news(words)` is for the user, `on_change()` for the list.
"""

import getpass
from datetime import datetime, timezone

from . import views
from .adopting import add_by_hand
from .decisions import Decisions
from .errors import UnusableInput
from .findings import Findings
from .handles import Handles
from .i18n import tr as _
from .notes import add_note
from .outbox import Outbox


class Review:
    """Methods take a volume node and keys of its findings (lines.py); all raise UnusableInput."""

    def __init__(self, scene, session, display, on_news, on_change):
        self.decisions = Decisions(scene)
        self.decisions.reviewer = _user()
        self.handles = Handles(scene)
        self.outbox = Outbox(scene, session, on_news, on_change)
        self._scene = scene
        self._findings = Findings(scene)
        self._display = display
        self._on_change = on_change

    def lines(self, volume):
        """A lines.Line per finding of a volume."""
        table = self._findings.table(volume) if volume is not None else None
        return [] if table is None else self._findings.lines(table)

    def accept(self, volume, keys):
        self._decide(volume, keys, self.decisions.accept)

    def reject(self, volume, keys):
        self._decide(volume, keys, self.decisions.reject)

    def reopen(self, volume, keys):
        self._decide(volume, keys, self.decisions.reopen)

    def comment(self, volume, keys, text):
        self._decide(volume, keys, lambda *which: self.decisions.comment(*which, text))

    def rename(self, volume, keys, label):
        self._decide(volume, keys, lambda *which: self.decisions.rename(*which, label))

    def edit(self, volume, key):
        """Brings out the handles of a finding's box, or puts them back where they are out.

        Returns whether they are out now.
        """
        if self.handles.key == key:
            self.finish()
            return False
        self.finish()
        return self.handles.start(self._table(volume), key)

    def finish(self):
        """Puts handles back that are out; a box that was moved makes its finding an edited one."""
        moved = self.handles.stop()
        if moved is not None:
            table = moved[0]
            self.decisions.moved(*moved)
            self._changed([self._findings.volume(table)])

    def undo(self):
        self.handles.cancel()
        self._walked(self.decisions.undo())

    def redo(self):
        self.handles.cancel()
        self._walked(self.decisions.redo())

    def addByHand(self, volume, roi, label, plane):
        """A finding where the user drew an ROI; returns its own ROI node."""
        if volume is None or roi is None:
            raise UnusableInput(_("No box is drawn."), _("Draw an ROI around what was missed."))
        reviewer = self.decisions.reviewer
        own = add_by_hand(self._findings, volume, roi, label, plane, reviewer)
        self._changed([volume])
        return own

    def note(self, volume, text):
        """A remark about the whole volume."""
        if volume is None or not text.strip():
            raise UnusableInput(_("There is no remark."), _("Choose a volume and write one."))
        table = self._findings.table(volume, create=True)
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        add_note(table, self.decisions.reviewer, text, time)
        self._changed([volume])

    def jump(self, volume, key):
        """Scrolls the slice views to a finding, where it still has its box."""
        roi = self._findings.rois(self._table(volume)).get(key)
        if roi is not None:
            self._display.favour(key)
            views.jumpTo(self._scene, roi)

    def forget(self):
        """For a scene that closes."""
        self.outbox.abandon()
        self.handles.stop()
        self.decisions.forget()

    def _decide(self, volume, keys, decide):
        self.finish()
        if decide(self._table(volume), [key for key in keys if key]):
            self._changed([volume])

    def _walked(self, keys):
        if keys:
            self._changed([self._findings.volume(table) for table in self._findings.tables()])

    def _changed(self, volumes):
        self._display.apply()
        for volume in volumes:
            self.outbox.send(volume)
        self._on_change()

    def _table(self, volume):
        table = self._findings.table(volume) if volume is not None else None
        if table is None:
            raise UnusableInput(_("There are no findings yet."), _("Ask for some first."))
        return table


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no account of that number; no such module on Windows
        return "reviewer"
