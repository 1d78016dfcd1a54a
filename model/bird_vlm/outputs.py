"""What a person gets: files that are whole or absent, and a table.

Knows nothing about models.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.table import Table

from bird_vlm.contract import Finding, GroundingResult
from bird_vlm.errors import BirdError


def check_writable(path: Path) -> None:
    """Raises BirdError where `path` cannot be written, before any work is done."""
    if path.is_dir():
        raise BirdError(f"{path}: is a folder; name a file to write")
    if not path.parent.is_dir():
        raise BirdError(f"{path.parent}: no such folder; make it first")
    if not os.access(path.parent, os.W_OK):
        raise BirdError(f"{path.parent}: may not be written to; choose another folder")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON so that a crash leaves the old file or the new one, never half of one."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def findings_table(result: GroundingResult) -> Table:
    """Findings, best first, then what is absent."""
    table = Table(title=f"{result.model} · {result.plane} slices")
    for column in ("finding", "score", "slices", "centre RAS (mm)", "size (mm)"):
        table.add_column(column, justify="left" if column == "finding" else "right")
    for finding in result.findings:
        table.add_row(*_row(finding))
    for label in result.absent:
        table.add_row(label, "-", "not found", "", "", style="dim")
    return table


def _row(finding: Finding) -> tuple[str, ...]:
    first, last = finding.slices
    center = ", ".join(f"{value:.0f}" for value in finding.roi.center_ras)
    size = " x ".join(f"{value:.0f}" for value in finding.roi.size_mm)
    return finding.label, f"{finding.score:.2f}", f"{first}-{last}", center, size
