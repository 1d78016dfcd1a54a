"""The review room's front door: the store and the exports, in calls that a route can make as is.

Knows neither HTTP nor torch, nor where volumes are kept: whoever exports hands the scan in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bird_server.review.exports.coco import coco_file
from bird_server.review.exports.csv_table import csv_file
from bird_server.review.exports.dicom_sr import sr_file
from bird_server.review.exports.export_file import ExportFile, with_statuses
from bird_server.review.exports.html_report import html_file
from bird_server.review.exports.markups import markups_file
from bird_server.review.records import (
    STATUSES,
    CaseReport,
    ModelVersion,
    NewCase,
    Places,
    Proposal,
    Proposed,
    Status,
)
from bird_server.review.store import FILE_NAME, ReviewStore
from bird_vlm.contract import GroundingResult
from bird_vlm.errors import BadRequestError
from bird_vlm.volumes import Volume

ExportKind = Literal["markups", "csv", "coco", "dicom-sr", "html"]
EXPORT_KINDS: tuple[ExportKind, ...] = get_args(ExportKind)
REVIEWED: tuple[Status, ...] = ("accepted", "edited")
NOT_REJECTED: tuple[Status, ...] = ("proposed", *REVIEWED)


@dataclass(frozen=True)
class Scan:
    """What exports need of the reviewed volume itself."""

    volume: Volume | None = None  # for pictures
    source: Path | None = None  # DICOM folder or file, for references


@dataclass(frozen=True)
class _Export:
    statuses: tuple[Status, ...]  # unless others are asked for
    write: Callable[[CaseReport, Scan], ExportFile]


_EXPORTS: dict[ExportKind, _Export] = {
    "markups": _Export(NOT_REJECTED, lambda report, _: markups_file(report)),
    "csv": _Export(STATUSES, lambda report, _: csv_file([report])),
    "coco": _Export(REVIEWED, lambda report, _: coco_file([report])),
    "dicom-sr": _Export(REVIEWED, lambda report, scan: sr_file(report, scan.source)),
    "html": _Export(STATUSES, lambda report, scan: html_file(report, scan.volume)),
}


class Review:
    """The reviews of one studies folder; `store` has all the rest: decisions, lists, notes."""

    def __init__(self, store: ReviewStore, studies: Path) -> None:
        self.store, self.studies = store, studies

    @classmethod
    def open(cls, studies: Path) -> Review:
        """Opens or makes STUDIES/.bird/review.sqlite3; `store.recovery` tells of damage.

        Raises NewerStoreError, StoreWriteError.
        """
        return cls(ReviewStore(studies / ".bird" / FILE_NAME), studies)

    def propose(
        self,
        volume: Volume,
        name: str,
        result: GroundingResult,
        version: str,
        volume_id: str | None = None,
        study: str | None = None,
    ) -> Proposed:
        """Stores a model's answer about `volume`; `version` is the fingerprint of its weights.

        `volume_id` (of an upload) and `study` (a path within the studies folder) tell where the
        volume's file lies. Raises BadRequestError where the answer is about another volume.
        """
        if result.volume != volume.geometry():
            raise BadRequestError(f"result: is about another volume than {name}")
        case, model = NewCase(volume.digest, name), ModelVersion(result.model, version)
        return self.store.propose(Proposal(case, model, result, Places(volume_id, study)))

    def export(
        self,
        volume_digest: str,
        kind: ExportKind,
        scan: Scan | None = None,
        statuses: tuple[Status, ...] | None = None,
    ) -> ExportFile:
        """A case in one format, with the findings of these statuses.

        By default: all but the rejected (markups), all (csv, html), the accepted and edited (coco,
        dicom-sr). Raises UnknownCaseError, ExportError, BadRequestError.
        """
        if kind not in EXPORT_KINDS:
            raise BadRequestError(f"kind: must be one of {', '.join(EXPORT_KINDS)}, got {kind!r}")
        export = _EXPORTS[kind]
        report = self.store.report(volume_digest)
        return export.write(with_statuses(report, statuses or export.statuses), scan or Scan())
