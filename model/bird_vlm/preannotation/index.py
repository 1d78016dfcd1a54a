"""The index: every case in one list, as JSON, for people and programs.

Puts records, expectations and pending cases together; knows nothing about models or HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.job import Job
from bird_vlm.preannotation.layout import CASES, OF_A_CASE
from bird_vlm.preannotation.records import Record
from bird_vlm.preannotation.studies import Skipped


def index_json(
    job: Job,
    told: Mapping[str, Any],
    cases: Sequence[Case],
    records: Mapping[Case, Record],
    skipped: Sequence[Skipped],
) -> dict[str, Any]:
    """`index.json`. A case without a record is pending.

    `missing` are labels that are expected in a case and were found nowhere in it. Nothing but
    `timing_s` differs between two runs over the same scans.
    """
    rows = [_row(job, case, records.get(case)) for case in cases]
    return {
        "asked": dict(told),
        "expected": {one.label: one.expected for one in job.wanted if one.expected is not None},
        "counts": {
            "cases": len(rows),
            **{
                status: sum(row["status"] == status for row in rows)
                for status in ("done", "failed", "pending")
            },
            "findings": sum(len(row["findings"]) for row in rows),
            "missing": sum(bool(row["missing"]) for row in rows),
            "skipped": len(skipped),
        },
        "cases": rows,
        "skipped": [{"name": one.name, "reason": one.told} for one in skipped],
    }


def _row(job: Job, case: Case, record: Record | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": case.name,
        "note": case.note,
        "status": record.status if record else "pending",
        "error": record.error if record else None,
        "files": {},
        "shape_ijk": record.shape_ijk if record else None,
        "plane": record.plane if record else None,
        "asked": record.asked if record else 0,
        "unreadable": record.unreadable if record else 0,
        "findings": record.findings if record else [],
        "absent": record.absent if record else [],
        "missing": missing(job, case, record) if record else [],
        "timing_s": record.timing_s if record else {},
    }
    if record and record.status == "done":
        places = (f"{CASES}/{case.folder}/{name}" for name in OF_A_CASE)
        row["files"] = dict(zip(("result", "markups", "thumbnail"), places, strict=True))
    return row


def missing(job: Job, case: Case, record: Record) -> list[str]:
    """Labels that are expected in a case and were found nowhere in it."""
    absent = set(record.absent)
    return [
        one.label for one in job.wanted if one.label in absent and one.is_expected_in(case.name)
    ]
