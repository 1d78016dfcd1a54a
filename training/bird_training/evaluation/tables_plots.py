"""Plots of reports: tasks by modality, models or data sizes, calibration.

Knows nothing about predictions; draws what `tables.py` takes out of a report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bird_training.evaluation.predictions import modality_order
from bird_training.evaluation.tables import TITLES, Measured, measured
from bird_training.evaluation.tables_paper import MED_GRIT_TEST, TABLE_1
from bird_training.facts import TASKS

_COLOURS = dict(zip(TASKS, ("#1f6f8b", "#e07a1f", "#5a9a3c", "#7a4fa3"), strict=True))
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(%|k\b)", re.IGNORECASE)
_PAPER_SIZES = (20.0, 40.0, 80.0, 270.0)  # thousand turns


def plot_tasks(report: Mapping, name: str, path: Path) -> None:
    """Bars by modality, one per task, with intervals; a line at each task's mean."""
    found = {task: m for task in TASKS if (m := measured(report, task))}
    modalities = modality_order([m for one in found.values() for m in one.values])
    _, axes = plt.subplots(figsize=(max(1.2 * len(modalities), 5) + 2, 4.2))
    width = 0.8 / max(len(found), 1)
    for number, (task, one) in enumerate(found.items()):
        places = [i for i, m in enumerate(modalities) if m in one.values]
        heights = [100 * one.values[modalities[i]] for i in places]
        spans = [_span(one, modalities[i]) for i in places]
        offset = (number - (len(found) - 1) / 2) * width
        axes.bar(
            [place + offset for place in places],
            heights,
            width,
            color=_COLOURS[task],
            label=f"{task} ({one.metric}), mean {100 * one.mean:.1f}",
            yerr=list(zip(*spans, strict=True)),
            error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
        )
    axes.set_xticks(range(len(modalities)), [TITLES.get(m, m) for m in modalities])
    axes.set_title(name)
    _finish(axes, path)


def plot_models(reports: Mapping[str, Mapping], path: Path, paper: bool = False) -> None:
    """A curve over data sizes where all names tell one ("10%", "20k"), else bars by model."""
    sizes = {name: size_in(name) for name in reports}
    units = {size[1] for size in sizes.values() if size}
    if len(reports) > 1 and None not in sizes.values() and len(units) == 1:
        _plot_curve(
            reports,
            {name: size[0] for name, size in sizes.items() if size},
            units.pop(),
            path,
            paper,
        )
    else:
        _plot_bars(reports, path)


def size_in(name: str) -> tuple[float, str] | None:
    """The data size that a model's name tells, and its unit.

    >>> size_in("bird-mini 25%"), size_in("BiRD-20k"), size_in("bird-mini")
    ((25.0, '%'), (20.0, 'k'), None)
    """
    found = _SIZE.search(name)
    return (float(found.group(1)), found.group(2).lower()) if found else None


def plot_calibration(report: Mapping, name: str, path: Path) -> None:
    """Reliability: how often an answer of a given score is right, and how many have that score."""
    calibrations = report["calibration"]
    figure, rows = plt.subplots(
        2,
        len(calibrations),
        figsize=(4.4 * len(calibrations), 5),
        squeeze=False,
        gridspec_kw={"height_ratios": (3, 1)},
        sharex=True,
    )
    for (upper, lower), (task, found) in zip(rows.T, calibrations.items(), strict=True):
        bins = found["bins"]
        upper.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
        scores, shares = [b["mean_score"] for b in bins], [b["share_true"] for b in bins]
        upper.plot(scores, shares, marker="o", color=_COLOURS[task])
        upper.set(
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            ylabel="share that is right" if task != "VG" else "share that is present",
        )
        upper.set_title(
            f"{name}: {task}, ECE {found['ece']:.3f}, Brier {found['brier']:.3f}", fontsize=9
        )
        centres = [(b["low"] + b["high"]) / 2 for b in bins]
        lower.bar(centres, [b["count"] for b in bins], 0.09, color=_COLOURS[task])
        lower.set(xlabel="score", ylabel="answers")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _plot_curve(
    reports: Mapping[str, Mapping], sizes: Mapping[str, float], unit: str, path: Path, paper: bool
) -> None:
    _, axes = plt.subplots(figsize=(6.5, 4.2))
    names = sorted(reports, key=sizes.__getitem__)
    for task in TASKS:
        points = [(sizes[n], found) for n in names if (found := measured(reports[n], task))]
        if points:
            axes.errorbar(
                [size for size, _ in points],
                [100 * found.mean for _, found in points],
                yerr=list(zip(*(_span(found, "mean") for _, found in points), strict=True)),
                marker="o",
                capsize=3,
                color=_COLOURS[task],
                label=f"{task} ({points[0][1].metric})",
            )
    if paper:
        _add_paper_curve(axes, unit)
    axes.set_xscale("log")
    ticks = sorted(set(sizes.values()))
    axes.set_xticks(ticks, [f"{size:g}{'%' if unit == '%' else 'k'}" for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("share of the training data" if unit == "%" else "training turns")
    _finish(axes, path)


def _add_paper_curve(axes: Axes, unit: str) -> None:
    rows = [r for r in TABLE_1 if r.name.startswith("BiRD") and r.test_set == MED_GRIT_TEST]
    for task, key in zip(TASKS, ("vg", "roc", "rc", "mia"), strict=True):
        values = [getattr(row, key) for row in rows]
        axes.plot(
            _paper_x(unit), values, color=_COLOURS[task], linestyle=":", marker=".", alpha=0.7
        )
    axes.plot(
        [], [], color="#555555", linestyle=":", marker=".", label="paper, full size (RC: SPICE)"
    )


def _paper_x(unit: str) -> list[float]:
    whole = _PAPER_SIZES[-1]
    return [100 * size / whole for size in _PAPER_SIZES] if unit == "%" else list(_PAPER_SIZES)


def _plot_bars(reports: Mapping[str, Mapping], path: Path) -> None:
    _, axes = plt.subplots(figsize=(max(1.3 * len(reports), 4) + 2.5, 4.2))
    for number, task in enumerate(TASKS):
        points = [(i, m) for i, r in enumerate(reports.values()) if (m := measured(r, task))]
        if points:
            axes.bar(
                [i + (number - 1.5) * 0.2 for i, _ in points],
                [100 * found.mean for _, found in points],
                0.2,
                yerr=list(zip(*(_span(found, "mean") for _, found in points), strict=True)),
                error_kw={"elinewidth": 0.8},
                color=_COLOURS[task],
                label=f"{task} ({points[0][1].metric})",
            )
    axes.set_xticks(range(len(reports)), list(reports))
    _finish(axes, path)


def _span(found: Measured, modality: str) -> tuple[float, float]:
    """How far the interval reaches below and above the value, in percent."""
    value = found.mean if modality == "mean" else found.values[modality]
    low, high = found.intervals.get(modality) or (value, value)
    return max(100 * (value - low), 0), max(100 * (high - value), 0)


def _finish(axes: Axes, path: Path) -> None:
    axes.set_ylim(0, 100)
    axes.set_ylabel("%")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(axes.figure)
