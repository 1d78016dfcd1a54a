"""Reports in the shape of the paper's tables 1 and 3, in percent.

A table is plain rows of cells; `tables_files.py` writes them. Knows nothing about predictions.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table as RichTable

from bird_training.evaluation.predictions import MODALITIES, modality_order
from bird_training.evaluation.tables_paper import TABLE_1, TABLE_3
from bird_training.facts import TASKS

Cell = str | float | None
TITLES = {
    "ct": "CT",
    "mr": "MR",
    "x": "X-ray",
    "pet": "PET",
    "endoscopy": "Endoscopy",
    "dermoscopy": "Dermoscopy",
    "fundus": "Fundus",
    "ultrasound": "Ultrasound",
}
BY_MBMR = "* mBMR: SPICE was not measured; not comparable with SPICE."
_METRICS = {"VG": "Recall@0.5", "ROC": "Recall", "RC": "SPICE", "MIA": "mBMR"}


@dataclass(frozen=True)
class Measured:
    """One task of one model, in 0..1."""

    metric: str
    values: dict[str, float]  # by modality
    mean: float
    intervals: dict[str, list[float] | None]  # by modality, and of the mean under "mean"


@dataclass(frozen=True)
class Table:
    """Cells under headings; numbers are percent, None is "-"."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """A Markdown table with its title and notes."""
        align = "".join(":--|" if i == 0 else "--:|" for i in range(len(self.columns)))
        shown = [[_shown(cell) for cell in row] for row in (self.columns, *self.rows)]
        lines = ["|".join(["", *(c.replace("|", "\\|") for c in row), ""]) for row in shown]
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return f"### {self.title}\n\n{lines[0]}\n|{align}\n" + "\n".join(lines[1:]) + f"\n{notes}"

    def csv(self) -> str:
        """The same cells, with empty ones for None; notes are left out."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        return buffer.getvalue()

    def rich(self) -> RichTable:
        """For a terminal."""
        table = RichTable(title=self.title, caption="\n".join(self.notes) or None, box=box.SIMPLE)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*map(_shown, row))
        return table


def measured(report: Mapping, task: str) -> Measured | None:
    """The paper's measure of a task in a report; RC by mBMR where SPICE is not known."""
    found = report.get(task)
    if not found or not (found.get("recall") or found.get("per_modality")):
        return None
    if task in ("VG", "ROC"):
        drawn = found.get("interval", {"recall": {}, "mean": None})
        intervals = drawn["recall"] | {"mean": drawn["mean"]}
        return Measured(_METRICS[task], found["recall"], found["mean"], intervals)
    spice = task == "RC" and "SPICE" in found["mean"]
    metric = "SPICE" if spice else "mBMR"
    values = {name: v["SPICE"] for name, v in found["per_modality"].items()} if spice else None
    drawn = found.get("interval", {"per_modality": {}, "mean": {}})
    intervals = {name: v[metric] for name, v in drawn["per_modality"].items()}
    return Measured(
        metric,
        values or found["mBMR_per_modality"],
        found["mean"]["SPICE"] if spice else found["mBMR"],
        intervals | {"mean": drawn["mean"].get(metric)},
    )


def table_3(report: Mapping, name: str, paper: bool = False) -> Table:
    """Rows tasks, columns modalities; with `paper` the published rows between."""
    modalities = _modalities([report], paper)
    rows: list[tuple[Cell, ...]] = []
    for task in TASKS:
        if found := measured(report, task):
            rows.append(_task_row(task, found, modalities))
        if paper:
            published = dict(zip((*MODALITIES, "mean"), TABLE_3[task], strict=True))
            cells = (published.get(m) for m in (*modalities, "mean"))
            rows.append((f"{task} (paper)", _METRICS[task], *cells))
    columns = ("Task", "Metric", *(TITLES.get(m, m) for m in modalities), "Average")
    return Table(f"{name}, by task and modality", columns, tuple(rows), _notes([report]))


def table_1(reports: Mapping[str, Mapping], paper: bool = False) -> Table:
    """Rows models, columns tasks; with `paper` the published rows first."""
    rows: list[tuple[Cell, ...]] = []
    if paper:
        rows += [
            (f"{r.name} (paper)", r.test_set, r.vg, r.roc, r.rc, r.mia, r.average) for r in TABLE_1
        ]
    for name, report in reports.items():
        found = {task: measured(report, task) for task in TASKS}
        cells = [_percent(found[task].mean) if found[task] else None for task in TASKS]
        average = sum(cells) / len(cells) if None not in cells else None  # type: ignore[arg-type]
        starred = found["RC"] is not None and found["RC"].metric != "SPICE"
        rc = _starred(cells[2]) if starred else cells[2]
        overall = _starred(average) if starred else average
        rows.append((name, report.get("test_set"), cells[0], cells[1], rc, cells[3], overall))
    headings = tuple(f"{task} ({metric})" for task, metric in _METRICS.items())
    columns = ("Model", "Test set", *headings, "Average")
    return Table("Models and data sizes", columns, tuple(rows), _notes(reports.values()))


def absence_table(reports: Mapping[str, Mapping]) -> Table | None:
    """Objects that may be absent: accuracy on balanced questions, F1 and rates of all questions."""
    rows: list[tuple[Cell, ...]] = []
    for name, report in reports.items():
        if found := report.get("hallucination"):
            balanced, rates = found["balanced"], found["all"]["mean"]
            values = [balanced[key] for key in ("accuracy", "f1", "precision", "recall")]
            values += [rates["absent_refused"], rates["false_refusal"]]
            rows.append((name, str(balanced["questions"]), *map(_percent, values)))
    quality = ("Accuracy", "F1", "Precision", "Recall", "Absent refused", "False refusal")
    columns = ("Model", "Questions", *quality)
    notes = (
        'Accuracy, F1, precision and recall of "present" on as many absent as present objects; '
        "refusals over all questions, unweighted mean over modalities.",
    )
    return Table("Absent objects", columns, tuple(rows), notes) if rows else None


def absence_by_modality(report: Mapping, name: str) -> Table | None:
    """The same of one model, columns modalities."""
    found = report.get("hallucination")
    if not found:
        return None
    rates = found["all"]["per_modality"]
    modalities = modality_order(rates)
    accuracy = found["balanced"]["accuracy_per_modality"]
    rows: list[tuple[Cell, ...]] = [
        _rate_row("Accuracy, balanced", [accuracy.get(m) for m in modalities])
    ]
    for key, heading in (("absent_refused", "Absent refused"), ("false_refusal", "False refusal")):
        rows.append(_rate_row(heading, [rates[m][key] for m in modalities]))
    columns = ("Absent objects", *(TITLES.get(m, m) for m in modalities), "Average")
    return Table(f"{name}, absent objects by modality", columns, tuple(rows))


def value_rows(reports: Mapping[str, Mapping]) -> Table:
    """Every value of the tables with its interval, one per row, for other programs."""
    rows: list[tuple[Cell, ...]] = []
    for name, report in reports.items():
        for task in TASKS:
            if found := measured(report, task):
                for modality, value in (found.values | {"mean": found.mean}).items():
                    low, high = found.intervals.get(modality) or (None, None)
                    cells = map(_percent, (value, low, high))
                    rows.append((name, task, found.metric, modality, *cells))
    columns = ("Model", "Task", "Metric", "Modality", "Value", "Low", "High")
    return Table("Values", columns, tuple(rows))


def _rate_row(heading: str, rates: Sequence[float | None]) -> tuple[Cell, ...]:
    known = [rate for rate in rates if rate is not None]
    mean = sum(known) / len(known) if known else None
    return (heading, *map(_percent, rates), _percent(mean))


def _task_row(task: str, found: Measured, modalities: Sequence[str]) -> tuple[Cell, ...]:
    metric = found.metric if found.metric == _METRICS[task] else f"{found.metric}*"
    cells = (_percent(found.values.get(m)) for m in modalities)
    mean = f"{100 * found.mean:.2f}"
    if drawn := found.intervals.get("mean"):
        mean += f" ({100 * drawn[0]:.1f} to {100 * drawn[1]:.1f})"
    return (task, metric, *cells, mean)


def _modalities(reports: Sequence[Mapping], paper: bool) -> list[str]:
    found = [
        m for report in reports for task in TASKS if (t := measured(report, task)) for m in t.values
    ]
    return modality_order([*found, *(MODALITIES if paper else ())])


def _notes(reports) -> tuple[str, ...]:
    rc = [found for report in reports if (found := measured(report, "RC"))]
    return (BY_MBMR,) if any(found.metric != "SPICE" for found in rc) else ()


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _starred(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}*"


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else cell
