"""The record of a case: what came of it, in the file that is written last.

Knows files and digests; knows nothing about models.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from bird_vlm.contract import GroundingResult
from bird_vlm.outputs import write_json
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.layout import CASES, OF_A_CASE, RECORD

Status = Literal["done", "failed"]


@dataclass(frozen=True)
class Record:
    """One case that was asked about, or that could not be."""

    case: str
    digest: str | None  # of the scan's bytes; None where they cannot be read
    asked_for: str  # fingerprint of labels, model and options
    status: Status
    error: str | None = None  # one line
    shape_ijk: list[int] | None = None
    plane: str | None = None
    asked: int = 0  # slice-label pairs
    unreadable: int = 0  # answers that were not in the language of boxes
    findings: list[dict[str, Any]] = field(default_factory=list)  # label, score, slices, size_mm
    absent: list[str] = field(default_factory=list)
    shown: int | None = None  # the slice of the thumbnail
    timing_s: dict[str, float] = field(default_factory=dict)


def failed(case: Case, digest: str | None, asked_for: str, error: str) -> Record:
    return Record(case.name, digest, asked_for, "failed", error=" ".join(error.split()))


def done(
    case: Case,
    digest: str,
    asked_for: str,
    result: GroundingResult,
    shown: int,
    timing_s: dict[str, float],
) -> Record:
    findings = [
        {
            "label": finding.label,
            "score": finding.score,
            "slices": list(finding.slices),
            "size_mm": [round(edge, 1) for edge in finding.roi.size_mm],
        }
        for finding in result.findings
    ]
    return Record(
        case=case.name,
        digest=digest,
        asked_for=asked_for,
        status="done",
        shape_ijk=list(result.volume.shape_ijk),
        plane=result.plane,
        asked=result.asked,
        unreadable=result.unreadable,
        findings=findings,
        absent=list(result.absent),
        shown=shown,
        timing_s=timing_s,
    )


def read_record(out: Path, case: Case) -> Record | None:
    """What an earlier run left; None where it left nothing whole."""
    folder = folder_of(out, case)
    try:
        told = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        record = Record(**{one.name: told[one.name] for one in fields(Record)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = record.status == "failed" or all((folder / name).is_file() for name in OF_A_CASE)
    return record if whole else None


def write_record(out: Path, case: Case, record: Record) -> Record:
    """The last file of a case. Raises OSError."""
    folder = folder_of(out, case)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, asdict(record))
    return record


def folder_of(out: Path, case: Case) -> Path:
    return out / CASES / case.folder


def clear(out: Path, case: Case) -> Path:
    """The case's folder, empty; its record goes first. Raises OSError."""
    folder = folder_of(out, case)
    (folder / RECORD).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
