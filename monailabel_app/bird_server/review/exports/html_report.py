"""A case as one HTML page with pictures inside, to read on screen and to print.

`case_report.html` is the page; every text is escaped there, and the page may load nothing. Pictures
are drawn by `bird_vlm.overlay`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image, ImageChops

from bird_server.review.errors import ExportError
from bird_server.review.exports.export_file import ExportFile, export_name
from bird_server.review.exports.markups import as_result
from bird_server.review.records import STATUSES, CaseReport, ReviewedFinding
from bird_vlm.overlay import MAX_PANELS, save_overlay
from bird_vlm.version import __version__
from bird_vlm.volumes import Volume

MARGIN_PIXELS = 12
NO_VOLUME = "The volume is no longer stored, so there are no pictures."
NOTHING_TO_SHOW = "There is nothing to show: no finding, or all were rejected."


@dataclass(frozen=True)
class Picture:
    caption: str
    base64: str  # PNG


def html_file(report: CaseReport, volume: Volume | None) -> ExportFile:
    """One page without any other file; `volume` None = without pictures.

    Rejected findings are listed, and not drawn. Raises ExportError where `volume` is another one.
    """
    if volume is not None and volume.digest != report.case.volume_digest:
        raise ExportError(f"volume: is not the one that was reviewed as {report.case.name}")
    people = {e.reviewer for h in report.histories.values() for e in h if e.reviewer}
    statuses = [finding.status for finding in report.findings]
    models = {(f.model.id, f.model.version): f.model for f in (*report.findings, *report.absences)}
    page = _page().render(
        case=report.case,
        findings=report.findings,
        histories=report.histories,
        absences=report.absences,
        notes=report.notes,
        time=plain_time(report.time),
        software=__version__,
        spacing=millimetres(_spacing_mm(report), " × "),
        models=list(models.values()),
        counts={status: statuses.count(status) for status in STATUSES},
        reviewers=sorted(people),
        pictures=[] if volume is None else list(_pictures(report, volume)),
        no_pictures=NO_VOLUME if volume is None else NOTHING_TO_SHOW,
    )
    return ExportFile(
        export_name(report, ".html"), "text/html; charset=utf-8", page.encode("utf-8")
    )


def millimetres(values: Sequence[float], separator: str) -> str:
    """
    >>> millimetres((1.25, -0.01, 30.0), ", ")
    '1.2, 0.0, 30.0'
    """
    return separator.join(f"{round(value, 1) + 0.0:.1f}" for value in values)


def plain_time(time: str) -> str:
    """
    >>> plain_time("2026-01-02T03:04:05.678+00:00")
    '2026-01-02 03:04:05'
    """
    return time[:19].replace("T", " ")


@cache
def _page() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(millimetres=millimetres, plain_time=plain_time)
    return environment.get_template("case_report.html")


def _spacing_mm(report: CaseReport) -> list[float]:
    matrix = np.array(report.case.geometry.ijk_to_ras)
    return np.linalg.norm(matrix[:3, :3], axis=0).tolist()


def _pictures(report: CaseReport, volume: Volume) -> Iterator[Picture]:
    """Sheets of up to 12 findings that were asked alike: same model, plane and window."""

    def asked(finding: ReviewedFinding) -> tuple:
        return finding.model.id, finding.plane, finding.window or ()

    shown = sorted((f for f in report.findings if f.status != "rejected"), key=asked)
    for _, group in groupby(shown, key=asked):
        findings = tuple(group)
        for start in range(0, len(findings), MAX_PANELS):
            yield _sheet(report, volume, findings[start : start + MAX_PANELS])


def _sheet(report: CaseReport, volume: Volume, findings: tuple[ReviewedFinding, ...]) -> Picture:
    drawn = io.BytesIO()
    save_overlay(drawn, volume, as_result(report, findings))
    first = findings[0]
    window = f", window level {first.window[0]:g} width {first.window[1]:g}" if first.window else ""
    labels = ", ".join(finding.content.label for finding in findings)
    return Picture(
        f"{labels}: the middle {first.plane} slice of each{window}.",
        base64.b64encode(_without_empty_columns(drawn)).decode("ascii"),
    )


def _without_empty_columns(drawn: io.BytesIO) -> bytes:
    """The sheet without the place for panels that it does not have: less ink on paper."""
    with Image.open(drawn) as sheet:
        empty = Image.new(sheet.mode, sheet.size, sheet.getpixel((0, 0)))
        *_, right, _ = ImageChops.difference(sheet, empty).getbbox()
        cropped = io.BytesIO()
        sheet.crop((0, 0, min(sheet.width, right + MARGIN_PIXELS), sheet.height)).save(
            cropped, format="PNG", optimize=True
        )
    return cropped.getvalue()
