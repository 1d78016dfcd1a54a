"""What was found before a question about a volume broke off: its boxes, slice by slice.

Not linked to findings, and under another name, so that nobody takes it for an answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bird_vlm.contract import GroundingRequest, Progress, SliceBox, to_json
from bird_vlm.outputs import write_json

if TYPE_CHECKING:
    from bird_vlm.volumes import Volume


class Unfinished:
    """Grows with every Progress of one request."""

    def __init__(self, model: str, scan: Volume, request: GroundingRequest) -> None:
        self.model, self.scan, self.request = model, scan, request
        self.boxes: list[tuple[str, SliceBox]] = []
        self.done = self.total = 0  # slice-label pairs

    def add(self, progress: Progress) -> None:
        self.boxes += progress.boxes
        self.done, self.total = progress.done, progress.total

    def keep(self, json: Path | None) -> str:
        """Write beside `json`, where there is one; returns what to tell the user."""
        told = f"{self.done} of {self.total} questions were answered, {len(self.boxes)} boxes found"
        if json is None:
            return f"{told}; with --json they are kept"
        path = json.with_name(f"{json.stem}.unfinished{json.suffix}")
        write_json(path, self._body())
        return f"{told}: {path}"

    def _body(self) -> dict[str, Any]:
        return {
            "volume": to_json(self.scan.geometry()),
            "model": self.model,
            "request": to_json(self.request),
            "done": self.done,
            "total": self.total,
            "boxes": [{"label": label, **to_json(box)} for label, box in self.boxes],
        }
