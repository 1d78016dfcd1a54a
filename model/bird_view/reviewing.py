"""The part of the page with the list of findings, and what a reviewer decides about them.

Knows nothing about widgets; what it does is in BiRDLib.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bird_view.BiRDLib.colors import label_color
from bird_view.BiRDLib.lines import COLUMNS, Line, Listing, cells, neighbour, next_open, tally
from bird_view.BiRDLib.review import Review
from bird_view.section import Section

if TYPE_CHECKING:
    from bird_view.BiRDLib.answers import Health
    from bird_view.viewer import Viewer

SHOWN_COLUMNS = ("label", "status", "score", "slices", "size")


class Reviewing(Section):
    """The list follows the scene."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._listing = Listing()
        self._shown: list[Line] = []
        self.review = Review(
            viewer.app.scene, viewer.core, viewer.core.display, viewer.log, viewer.on_scene_event
        )
        self.page.reviewer = self.review.decisions.reviewer

    def connected(self, health: Health) -> None:
        """What was decided while no server was there is sent."""
        self.review.outbox.send_all()

    def update(self) -> None:
        lines = self.review.lines(self.volume)
        self._shown = self._listing.of(lines)
        if self.page.selected not in {line.key for line in self._shown}:
            self.page.selected = ""
        self.page.lines = [_told(line, number) for number, line in enumerate(self._shown)]
        waiting = self.review.outbox.waiting()
        self.page.tally = tally(lines) + (f", {waiting} not sent yet (*)" if waiting else "")
        self.page.can_undo = self.review.decisions.canUndo
        self.page.can_redo = self.review.decisions.canRedo
        self.page.sorted_by, self.page.descending = self._listing.by, self._listing.descending

    def select(self, key: str) -> None:
        """Selects a finding and scrolls the views to it; an empty key is an absent label's."""
        self.page.selected = key
        if key:
            self.attempt(self.review.jump, self.volume, key)
        self.viewer.update()

    def step(self, by: int) -> None:
        """Selects the next (or previous) finding of the list."""
        key = neighbour(self._shown, self.page.selected or None, by)
        if key is not None:
            self.select(key)

    def accept(self) -> None:
        self._decide(self.review.accept)

    def reject(self) -> None:
        self._decide(self.review.reject)

    def reopen(self) -> None:
        """The selected finding is undecided again."""
        if self.page.selected:
            self.attempt(self.review.reopen, self.volume, [self.page.selected])
        self.viewer.update()

    def undo(self) -> None:
        self.attempt(self.review.undo)
        self.viewer.update()

    def redo(self) -> None:
        self.attempt(self.review.redo)
        self.viewer.update()

    def sort(self, by: str) -> None:
        """By a column; by the same again turns the order round."""
        again = by == self._listing.by
        descending = not self._listing.descending if again else by == "score"
        self._listing = replace(self._listing, by=by, descending=descending)
        self.viewer.update()

    def show_from(self, threshold: float) -> None:
        """The threshold acts at once, on views and list, without asking the server."""
        self._listing = replace(self._listing, threshold=float(threshold))
        self.core.display.showFrom(float(threshold))
        self.viewer.update()

    def rename_reviewer(self, name: str) -> None:
        if name.strip():
            self.review.decisions.reviewer = name.strip()

    def _decide(self, decide: Any) -> None:
        """Decides about the selected finding and goes on to what is still to decide."""
        key = self.page.selected
        if not key:
            self.viewer.log("Select a finding in the list.")
            return
        after = next_open(self._shown, key)
        if self.attempt(decide, self.volume, [key]) and after not in (None, key):
            self.select(after)
        self.viewer.update()


def _told(line: Line, number: int) -> dict[str, Any]:
    """A line as the page's table takes it."""
    words = dict(zip(COLUMNS, cells(line), strict=True))
    red, green, blue = (round(255 * part) for part in label_color(line.label))
    return {
        "number": number,
        "key": line.key,
        "cells": [words[name] for name in SHOWN_COLUMNS],
        "state": line.status,
        "color": f"rgb({red}, {green}, {blue})" if line.key else "transparent",
        "hint": line.comment or line.prompt,
    }
