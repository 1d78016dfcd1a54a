"""A file to hand out: its name, kind and bytes. Knows nothing about formats."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bird_server.review.records import CaseReport, Status
from bird_vlm.volumes import SUFFIXES

_ODD = re.compile(r"[^A-Za-z0-9._-]+")
MAX_STEM_CHARACTERS = 80


@dataclass(frozen=True)
class ExportFile:
    name: str  # plain ASCII, no path
    media_type: str
    content: bytes


def export_name(report: CaseReport, suffix: str) -> str:
    """The case's name without its own suffix, safe as a file name everywhere.

    The digest's first digits tell cases of the same name apart.
    """
    name = report.case.name
    own = next((s for s in SUFFIXES if name.lower().endswith(s)), "")
    stem = _ODD.sub("_", name[: len(name) - len(own)]).strip("._") or "case"
    digest = _ODD.sub("", report.case.volume_digest)[:8]
    return f"{stem[:MAX_STEM_CHARACTERS]}_{digest}{suffix}"


def with_statuses(report: CaseReport, statuses: tuple[Status, ...]) -> CaseReport:
    """The report with the findings of these statuses only."""
    kept = tuple(finding for finding in report.findings if finding.status in statuses)
    return replace(report, findings=kept)
