"""What lists of findings and of cases show: filters, orders, pages.

Knows nothing about databases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from bird_server.review.records import (
    NOWHERE,
    STATUSES,
    Case,
    Places,
    ReviewedFinding,
    Status,
)
from bird_vlm.errors import BadRequestError

Order = Literal["oldest", "newest", "least certain"]
CaseOrder = Literal["oldest", "newest", "name"]
ORDERS: tuple[Order, ...] = get_args(Order)
CASE_ORDERS: tuple[CaseOrder, ...] = get_args(CaseOrder)
MAX_PAGE = 500


@dataclass(frozen=True)
class CaseSummary:
    """A line of the list of cases."""

    case: Case
    counts: dict[Status, int]  # every status, 0 included
    missing: tuple[str, ...]  # prompts that were asked and that no finding answers
    notes: int = 0
    places: Places = NOWHERE
    mark: tuple[int, ...] = ()  # another one after every change of what is known about the case


@dataclass(frozen=True)
class CaseFilter:
    """Which cases a list shows; None and False = any."""

    unreviewed: bool = False  # with findings that nobody has reviewed
    missing: str | None = None  # lacks this label, though asked for it; compared as `natural_name`
    any_missing: bool = False
    name: str | None = None  # part of the name, in any case
    order: CaseOrder = "oldest"
    offset: int = 0
    limit: int = 100  # at most MAX_PAGE

    def __post_init__(self) -> None:
        if self.order not in CASE_ORDERS:
            raise BadRequestError(
                f"order: must be one of {', '.join(CASE_ORDERS)}, got {self.order!r}"
            )
        check_page(self.offset, self.limit)


@dataclass(frozen=True)
class CasePage:
    cases: tuple[CaseSummary, ...]
    total: int  # that fit the filter, on all pages


@dataclass(frozen=True)
class WorkFilter:
    """Which findings a work list shows; None = any."""

    volume_digest: str | None = None
    statuses: tuple[Status, ...] = ()  # empty = any; ("proposed",) = unreviewed
    label: str | None = None  # compared as `natural_name`
    model: str | None = None
    version: str | None = None
    reviewer: str | None = None
    order: Order = "oldest"
    offset: int = 0
    limit: int = 100  # at most MAX_PAGE

    def __post_init__(self) -> None:
        for status in self.statuses:
            if status not in STATUSES:
                raise BadRequestError(
                    f"statuses: must be among {', '.join(STATUSES)}, got {status!r}"
                )
        if self.order not in ORDERS:
            raise BadRequestError(f"order: must be one of {', '.join(ORDERS)}, got {self.order!r}")
        check_page(self.offset, self.limit)


@dataclass(frozen=True)
class WorkPage:
    findings: tuple[ReviewedFinding, ...]
    total: int  # that fit the filter, on all pages


def check_page(offset: int, limit: int) -> None:
    """Raises BadRequestError unless they name a page of a list."""
    if not 0 <= offset < 2**63:
        raise BadRequestError(f"offset: must be 0 or more, got {offset}")
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequestError(f"limit: must lie in 1..{MAX_PAGE}, got {limit}")
