"""What a person sees while a run goes on: a line per case, the case under way, and how long still.

Knows nothing about how cases are asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bird_vlm.console import console
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.records import Record

_NAME = 48  # characters of a case's name beside the bar


class Showing:
    """As `run.Watcher`; `also` is told of every finished case, too."""

    def __init__(self, bar: Progress, total: int, also: Callable[[Case, Record], None]) -> None:
        self.bar, self.total, self.also = bar, total, also
        self.done, self.started_at = 0, time.monotonic()
        self.under_way: dict[Case, float] = {}  # and the share of it that is answered
        self.job: TaskID = bar.add_task("", total=total, left="")

    def started(self, case: Case) -> None:
        self.under_way[case] = 0.0
        self._show()

    def slices(self, answered: int, total: int) -> None:
        """Of the one case that this process is at."""
        for case in self.under_way:
            self.under_way[case] = answered / max(1, total)
        self._show()

    def finished(self, case: Case, record: Record) -> None:
        del self.under_way[case]
        self.done += 1
        self.also(case, record)
        self._show()
        style = "red" if record.status == "failed" else None
        told = f"[{self.done}/{self.total}] {case.name}: {_told(record)}{self._left(', ')}"
        console.print(told, style=style, markup=False, highlight=False, soft_wrap=True)

    def _show(self) -> None:
        names = ", ".join(short(case.name) for case in self.under_way)
        done = self.done + sum(self.under_way.values())
        self.bar.update(self.job, completed=done, description=names, left=self._left())

    def _left(self, before: str = "") -> str:
        """How long still, from the pace so far."""
        done = self.done + sum(self.under_way.values())
        if not done or done >= self.total:
            return ""
        seconds = (time.monotonic() - self.started_at) / done * (self.total - done)
        return f"{before}{duration(seconds)} left"


@contextmanager
def showing(total: int, also: Callable[[Case, Record], None]) -> Iterator[Showing]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    counts = (TextColumn("{task.fields[left]}", markup=False),)
    with Progress(
        *columns, *counts, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield Showing(bar, total, also)


def duration(seconds: float) -> str:
    """
    >>> duration(8.4), duration(100), duration(7300)
    ('8 s', '1 min 40 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short(name: str) -> str:
    """The end of a long name, which tells cases apart.

    >>> len(short("x" * 500))
    48
    """
    return name if len(name) <= _NAME else "..." + name[3 - _NAME :]


def _told(record: Record) -> str:
    if record.status == "failed":
        return f"failed: {record.error}"
    count = len(record.findings)
    seconds = record.timing_s.get("total", 0.0)
    return f"{count} finding{'' if count == 1 else 's'}, {seconds:.1f} s"
