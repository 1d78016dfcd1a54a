"""A folder of predictions to a report: values, intervals, hallucination, calibration.

The report is plain JSON; what could not be measured is named in "left_out" with the reason, never
a zero. Knows nothing about tables or the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from bird_training.evaluation import metrics
from bird_training.evaluation.calibration import calibrate
from bird_training.evaluation.captioning import (
    CaptionScorer,
    PackageMissingError,
    caption_scorer,
    require_package,
)
from bird_training.evaluation.hallucination import hallucination, truth_of
from bird_training.evaluation.java import JavaMissingError, find_java
from bird_training.evaluation.metrics import Reading, Scored
from bird_training.evaluation.predictions import Prediction
from bird_training.evaluation.responses import names_every_word
from bird_training.evaluation.scores import Resampling, interval, resampled_values, values_of
from bird_training.evaluation.spice import Spice, SpiceError, ready_spice
from bird_vlm.errors import BirdError

Predictions = Mapping[str, Sequence[Prediction]]
TEXT_TASKS = ("RC", "MIA")


@dataclass(frozen=True)
class Settings:
    """What the user chose."""

    reading: Reading = field(default_factory=Reading)
    resampling: Resampling = field(default_factory=Resampling)
    fetch_spice: bool = False


def evaluate(predictions: Predictions, settings: Settings | None = None) -> dict:
    """The report on one model's predictions, see `evaluate_models`."""
    return evaluate_models({"": predictions}, settings)[""]


def evaluate_models(
    models: Mapping[str, Predictions],
    settings: Settings | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> dict[str, dict]:
    """Reports by model on predictions by task; `on_step` hears what is measured next.

    "VG" and "ROC": recall and hits by modality, unweighted mean. "RC" and "MIA": caption metrics
    by modality, means, mBMR. "hallucination" and "calibration" where the predictions allow them.
    """
    settings = settings or Settings()
    with _text_scorer(models, settings.fetch_spice) as scorer:
        return {
            name: _report(
                predictions, settings, scorer, lambda step, n=name: on_step(f"{n}: {step}")
            )
            for name, predictions in models.items()
        }


@contextmanager
def _text_scorer(
    models: Mapping[str, Predictions], fetch_spice: bool
) -> Iterator[CaptionScorer | BirdError | None]:
    """One scorer for all models, as its start takes seconds; or why there is none; or no need."""
    if not any(task in predictions for predictions in models.values() for task in TEXT_TASKS):
        yield None
        return
    with ExitStack() as opened:
        try:
            find_java()  # before SPICE's models are fetched in vain
            scorer = opened.enter_context(caption_scorer(*_spice(fetch_spice)))
        except (JavaMissingError, PackageMissingError) as error:
            scorer = error
        yield scorer


def _spice(fetch: bool) -> tuple[Spice | None, str]:
    """SPICE's function, or why there is none."""
    require_package()
    try:
        return ready_spice(fetch), ""
    except SpiceError as error:
        return None, str(error)


def _report(
    predictions: Predictions,
    settings: Settings,
    scorer: CaptionScorer | BirdError | None,
    on_step: Callable[[str], None],
) -> dict:
    report: dict = {}
    for task, score in (("VG", metrics.score_vg), ("ROC", metrics.score_roc)):
        if task in predictions:
            on_step(task)
            scored = score(predictions[task], settings.reading)
            report[task] = _recall_report(task, scored, settings.resampling)
    left_out = _add_texts(report, predictions, settings, scorer, on_step)
    on_step("hallucination and calibration")
    report |= _add_presence(predictions, settings)
    return report | {"left_out": left_out, "settings": _settings_report(settings)}


def _add_texts(
    report: dict,
    predictions: Predictions,
    settings: Settings,
    scorer: CaptionScorer | BirdError | None,
    on_step: Callable[[str], None],
) -> dict[str, str]:
    """Adds RC and MIA to the report; returns what is left out and why."""
    tasks = [task for task in TEXT_TASKS if task in predictions]
    if not tasks or scorer is None:
        return {}
    if isinstance(scorer, BirdError):
        return dict.fromkeys(tasks, f"BLEU, METEOR, ROUGE_L, CIDEr and SPICE: {scorer}")
    for task in tasks:
        on_step(task)
        scored = metrics.score_texts(predictions[task], settings.reading, scorer)
        report[task] = _text_report(task, scored, settings.resampling)
    return {"SPICE": scorer.no_spice} if scorer.no_spice else {}


def _recall_report(task: str, scored: Mapping[str, Scored], resampling: Resampling) -> dict:
    sums = {name: found.scores[0].counts.sum(0) for name, found in scored.items()}
    recall = {name: found.scores[0].values[0] for name, found in scored.items()}
    report = {
        "hits_total": {name: [int(hits), int(total)] for name, (hits, total) in sums.items()},
        "recall": recall,
        "mean": _mean(list(recall.values())),
    }
    per_modality, mean = _intervals(task, scored, resampling, dict)
    if per_modality:
        recalls = {name: found["recall"] for name, found in per_modality.items()}
        report["interval"] = {"recall": recalls, "mean": mean["recall"]}
    return report


def _text_report(task: str, scored: Mapping[str, Scored], resampling: Resampling) -> dict:
    values = {name: values_of(found.scores) for name, found in scored.items()}
    means = {key: _mean([v[key] for v in values.values()]) for key in next(iter(values.values()))}
    report = {
        "per_modality": values,
        "mean": means,
        "mBMR": metrics.mbmr(means),
        "mBMR_per_modality": {name: metrics.mbmr(found) for name, found in values.items()},
    }
    per_modality, mean = _intervals(task, scored, resampling, _with_mbmr)
    if per_modality:
        report["interval"] = {"per_modality": per_modality, "mean": mean}
    return report


def _intervals(
    task: str,
    scored: Mapping[str, Scored],
    resampling: Resampling,
    extended: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
) -> tuple[dict, dict]:
    """Intervals by modality and name, and of the means by name; empty where none are wanted."""
    if not resampling.resamples or not scored:
        return {}, {}
    drawn = {
        name: extended(
            resampled_values(
                found.scores, _units(found.predictions, resampling.by), resampling, f"{task} {name}"
            )
        )
        for name, found in scored.items()
    }
    names = next(iter(drawn.values())).keys()
    means = {key: np.mean([values[key] for values in drawn.values()], axis=0) for key in names}
    return (
        {name: _interval_each(values, resampling) for name, values in drawn.items()},
        _interval_each(means, resampling),
    )


def _interval_each(values: dict[str, np.ndarray], resampling: Resampling) -> dict:
    return {key: interval(column, resampling) for key, column in values.items()}


def _units(rows: Sequence[Prediction], by: str) -> list[str]:
    if by == "image":
        return [row.image for row in rows]
    if lacking := next((row for row in rows if row.case is None), None):
        raise BirdError(
            f"by: the prediction for {lacking.image} does not tell its case; use --by image"
        )
    return [row.case or "" for row in rows]


def _add_presence(predictions: Predictions, settings: Settings) -> dict:
    reading, grounded = settings.reading, predictions.get("VG", ())
    found = hallucination(grounded, reading, settings.resampling.seed)
    calibrations = {
        "VG": [
            (row.score, truth == "present")
            for row in grounded
            if (truth := truth_of(row, reading)) != "unclear"
        ],
        "ROC": [
            (row.score, names_every_word(row.annotation, reading.clean(row.response)))
            for row in predictions.get("ROC", ())
        ],
    }
    known = {task: [pair for pair in p if pair[0] is not None] for task, p in calibrations.items()}
    reports = {task: calibrate(*zip(*p, strict=True)).report() for task, p in known.items() if p}
    return ({"hallucination": found} if found else {}) | (
        {"calibration": reports} if reports else {}
    )


def _with_mbmr(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return values | {"mBMR": metrics.mbmr(values)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _settings_report(settings: Settings) -> dict:
    return vars(settings.resampling) | {"clean": settings.reading.clean.__name__}
