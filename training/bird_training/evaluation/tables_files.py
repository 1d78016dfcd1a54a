"""Tables and plots of reports as files in one folder.

Knows nothing about how reports are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bird_training.evaluation.tables import (
    Table,
    absence_by_modality,
    absence_table,
    table_1,
    table_3,
    value_rows,
)


def write_tables(reports: Mapping[str, Mapping], folder: Path, paper: bool = False) -> list[Path]:
    """Writes Markdown, CSV and plots of the reports by model name; returns the files."""
    from bird_training.evaluation import tables_plots as plots

    folder.mkdir(parents=True, exist_ok=True)
    tables = {"table_1": table_1(reports, paper), "absent_objects": absence_table(reports)}
    written: list[Path] = []
    for name, report in reports.items():
        stem = _stem(name, reports)
        tables[f"table_3{stem}"] = table_3(report, name, paper)
        tables[f"absent_by_modality{stem}"] = absence_by_modality(report, name)
        written.append(folder / f"table_3{stem}.png")
        plots.plot_tasks(report, name, written[-1])
        if "calibration" in report:
            written.append(folder / f"calibration{stem}.png")
            plots.plot_calibration(report, name, written[-1])
    if len(reports) > 1:
        written.append(folder / "table_1.png")
        plots.plot_models(reports, written[-1], paper)
    return written + _write_texts({k: t for k, t in tables.items() if t}, reports, folder)


def _write_texts(
    tables: Mapping[str, Table], reports: Mapping[str, Mapping], folder: Path
) -> list[Path]:
    texts = {f"{name}.csv": table.csv() for name, table in tables.items()}
    texts["values.csv"] = value_rows(reports).csv()
    texts["tables.md"] = "\n".join(table.markdown() for table in tables.values())
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _stem(name: str, reports: Mapping[str, Mapping]) -> str:
    """What tells a model's files apart; nothing where there is one model."""
    if len(reports) == 1:
        return ""
    number = list(reports).index(name) + 1
    return f"_{number}_{re.sub(r'[^A-Za-z0-9.-]+', '-', name).strip('-')}"
