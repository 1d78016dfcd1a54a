"""The label list: what to look for, and in which studies it is expected.

Knows nothing about models or files of scans.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bird_vlm.contract import MAX_LABELS, GroundingRequest
from bird_vlm.errors import BadRequestError

ANYWHERE = "*"
MAX_LINES = 1000  # labels of one list
_EXPECTED = re.compile(r"(?P<label>.*?)\s+expected(?:\s+(?P<studies>\S.*))?", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """One label, and the studies that should show it.

    >>> Wanted("liver", "abdomen/*").is_expected_in("abdomen/ct_1.nii.gz")
    True
    """

    label: str
    expected: str | None = None  # pattern of case names (* and ?), None where nothing is expected

    def is_expected_in(self, case: str) -> bool:
        return self.expected is not None and fnmatchcase(case, self.expected)


def read_wanted(files: Sequence[Path], labels: Sequence[str]) -> tuple[Wanted, ...]:
    """The labels of label files, line by line, and single ones; in order, each once.

    Raises BadRequestError for a file that cannot be read, a label that cannot be asked for, two
    different expectations of one label, and an empty list.
    """
    wanted: dict[str, Wanted] = {}
    for line, place in (*_lines(files), *((label, "label") for label in labels)):
        found = wanted_of(line, place)
        before = wanted.setdefault(found.label, found)
        if before != found:
            raise BadRequestError(
                f"{place}: {found.label!r} is listed twice with different expectations; keep one"
            )
    if not 0 < len(wanted) <= MAX_LINES:
        raise BadRequestError(
            f"labels: give 1 to {MAX_LINES} of them with --labels FILE or --label, "
            f"got {len(wanted)}"
        )
    return tuple(wanted.values())


def wanted_of(line: str, place: str = "labels") -> Wanted:
    """One line of a list.

    >>> wanted_of("left  kidney")
    Wanted(label='left kidney', expected=None)
    >>> wanted_of("liver  expected"), wanted_of("liver expected abdomen/*")
    (Wanted(label='liver', expected='*'), Wanted(label='liver', expected='abdomen/*'))
    """
    told = _EXPECTED.fullmatch(line.strip())
    label, studies = (told["label"], told["studies"] or ANYWHERE) if told else (line, None)
    try:
        [label] = GroundingRequest((label,)).labels
    except BadRequestError as error:
        raise BadRequestError(f"{place}: {error}") from error
    return Wanted(label, studies)


def in_requests(labels: Sequence[str]) -> list[tuple[str, ...]]:
    """As many together as one request may hold."""
    return [tuple(labels[at : at + MAX_LABELS]) for at in range(0, len(labels), MAX_LABELS)]


def _lines(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(line, where it stands), without comments and empty lines."""
    for path in files:
        for number, line in enumerate(_text(path).splitlines(), start=1):
            line = line.partition("#")[0].strip()
            if line:
                yield line, f"{path}, line {number}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequestError(
            f"labels: {path} cannot be read as UTF-8 text ({error}); give one label per line"
        ) from error
