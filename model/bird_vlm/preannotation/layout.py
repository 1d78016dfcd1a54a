"""What lies where in the output folder.

    preannotation.json   what was asked, of which model; tells our folders from others
    index.json           all cases: what was found, what is missing, failures, times
    index.html           the same, to look at
    cases/NAME-DIGEST/   one case: result.json, findings.mrk.json, thumbnail.png, case.json

`case.json` is written last, so that a case either has it and is whole, or is asked again. Knows
nothing about what the files hold.
"""

from __future__ import annotations

from pathlib import Path

OURS = ".bird"  # beside scans; whatever of ours lies there is no scan
SETTINGS, INDEX, PAGE, LOCK = "preannotation.json", "index.json", "index.html", ".lock"
CASES = "cases"
RESULT, MARKUPS, THUMBNAIL = "result.json", "findings.mrk.json", "thumbnail.png"
RECORD = "case.json"
OF_A_CASE = (RESULT, MARKUPS, THUMBNAIL)


def is_ours(folder: Path) -> bool:
    """Whether `bird preannotate` writes into it."""
    return (folder / SETTINGS).is_file()
