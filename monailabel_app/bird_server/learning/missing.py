"""The missing-organ audit: organs that were asked for, not found, and ought to be there.

An absence is open until somebody has worked on the case after it was stored. Knows nothing about
databases.
"""

from __future__ import annotations

from collections.abc import Iterator

from bird_server.learning.anatomy import suspicion
from bird_server.learning.case_score import CaseScore, scored
from bird_server.review.records import CaseReport
from bird_vlm.labels import natural_name, without_side


def missing_organs(report: CaseReport) -> CaseScore:
    """Of the open absences of a case."""
    return scored(_parts(report))


def _parts(report: CaseReport) -> Iterator[tuple[float, str]]:
    found = {
        natural_name(finding.content.label)
        for finding in report.findings
        if finding.status != "rejected"
    }
    missed = {natural_name(absence.prompt) for absence in report.absences}
    looked_at = _last_look(report)
    latest = {natural_name(a.prompt): a for a in report.absences if a.time > looked_at}
    for name, absence in latest.items():
        if without_side(name) != name and without_side(name) in found:
            continue  # "kidney" was found, and is either
        share, why = suspicion(name, found, missed)
        yield share, f"{absence.prompt}: not found, though {why}"


def _last_look(report: CaseReport) -> str:
    """When a person last changed or said something about the case; "" = never."""
    changes = [finding.time for finding in report.findings if finding.reviewer]
    return max([*changes, *(note.time for note in report.notes)], default="")
