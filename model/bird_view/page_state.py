"""What the page shows and what its user typed: one field per thing, the same for every browser.

Knows nothing about widgets, nor where the values come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bird_view.BiRDLib.question import WHOLE


@dataclass
class Page:
    # the server
    scan: str = ""
    server: str = "Not connected"
    connected: bool = False
    remote: bool = False  # the server is another computer
    allow_remote: bool = False  # the user lets images leave this one
    # the question
    labels: str = ""  # one name per line
    known: str = ""  # names that the model knows
    plane: str = "axial"
    extent: str = WHOLE
    answer: str = ""  # what is in the box
    drawing: bool = False  # the next two clicks in a view place a box
    brightness: bool = False  # dragging in a view changes the window
    # what can be done now; a reason says why not, and is empty where it can
    busy: bool = False
    ask_reason: str = ""
    refer_reason: str = ""
    # what is being done
    percent: int = 0
    doing: str = ""
    log: list[str] = field(default_factory=list)  # the latest last
    # the findings
    lines: list[dict[str, Any]] = field(default_factory=list)  # reviewing.py's _told
    selected: str = ""  # key of a finding
    sorted_by: str = "slices"
    descending: bool = False
    show_from: float = 0.0  # score, 0..1, from which undecided findings show
    tally: str = ""
    can_undo: bool = False
    can_redo: bool = False
    kept: int = 0  # findings accepted or edited
    reviewer: str = ""
