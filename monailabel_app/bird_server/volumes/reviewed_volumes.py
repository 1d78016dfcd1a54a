"""From a case to its volume's file, and from an upload to its case.

Stands between the review store, which keeps no voxels, and the volumes of the service. Knows
nothing about HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bird_server.review.errors import UnknownCaseError
from bird_server.review.records import CaseReport, NewCase, Places
from bird_server.review.review import ExportKind, Review, Scan
from bird_server.service import Service
from bird_server.volumes.reading import read_named
from bird_server.volumes.volumes_store import UnknownVolumeError
from bird_vlm.contract import VolumeGeometry
from bird_vlm.errors import BadVolumeError
from bird_vlm.volumes import Volume

VOLUME_ID_DIGITS = 64


class LostVolumeError(BadVolumeError):
    """A case whose file is gone, was overwritten, or cannot be read any more."""


@dataclass(frozen=True)
class KnownCase:
    """What is needed to add something to a case that may be new."""

    case: NewCase
    geometry: VolumeGeometry
    places: Places


class ReviewedVolumes:
    """The volumes of the cases of one service."""

    def __init__(self, service: Service, review: Review) -> None:
        self._service, self._review = service, review

    def digest(self, key: str) -> str:
        """The volume digest for a digest or the id of an upload. Raises UnknownVolumeError."""
        if len(key) != VOLUME_ID_DIGITS:
            return key
        return self._review.store.digest_of(key) or self._service.digest_of(key)

    def known(self, key: str) -> KnownCase:
        """A case by its key; one that nothing is known about yet by the id of its upload.

        Raises UnknownVolumeError, UnknownCaseError.
        """
        digest = self.digest(key)
        try:
            report = self._review.store.report(digest, histories=False)
            known = NewCase(digest, report.case.name)
            return KnownCase(known, report.case.geometry, report.places)
        except UnknownCaseError:
            if len(key) != VOLUME_ID_DIGITS:
                raise
        geometry = self._service.volume(key).geometry()
        case = NewCase(digest, self._service.stored(key).name)
        return KnownCase(case, geometry, Places(volume_id=key))

    def is_stored(self, places: Places) -> bool:
        """Whether the upload of a case is still there."""
        return places.volume_id is not None and self._service.store.holds(places.volume_id)

    def path(self, places: Places) -> Path | None:
        """The file of a case; None where it is gone."""
        if self.is_stored(places):
            return self._service.store.path(places.volume_id)
        study = self._study(places)
        return study if study and study.exists() else None

    def volume(self, volume_digest: str, name: str, places: Places) -> Volume:
        """The very volume of a case. Raises LostVolumeError, which says what became of it."""
        try:
            if self.is_stored(places):
                volume = self._service.volume(places.volume_id)
            elif path := self.path(places):
                volume = read_named(path, name)
            else:
                raise LostVolumeError(f"{name}: its file has expired or was moved away")
        except (BadVolumeError, UnknownVolumeError) as error:
            raise LostVolumeError(str(error)) from error
        if volume.digest != volume_digest:
            raise LostVolumeError(f"{name}: its file was overwritten with another scan")
        return volume

    def scan(self, report: CaseReport, kind: ExportKind) -> Scan:
        """What an export needs of the volume, as far as it is there."""
        if kind == "dicom-sr":
            return Scan(source=self.path(report.places))
        if kind != "html":
            return Scan()
        try:
            case = report.case
            return Scan(volume=self.volume(case.volume_digest, case.name, report.places))
        except LostVolumeError:
            return Scan()  # a report without pictures

    def _study(self, places: Places) -> Path | None:
        """Inside the studies folder only: links that lead elsewhere are not followed."""
        if places.study is None:
            return None
        studies = self._review.studies.resolve()
        path = (studies / places.study).resolve()
        return path if path.is_relative_to(studies) else None
