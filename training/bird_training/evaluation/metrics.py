"""The four tasks' measures by the rules of the paper's own evaluation scripts.

VG Recall@0.5: an annotated box is found if any answered box overlaps it with an IoU above 0.5; an
annotation without boxes is skipped. ROC Recall: a name is right if every word of it is in the
answer. RC and MIA: caption metrics; mBMR is the mean of BLEU@4, METEOR and ROUGE-L. Knows nothing
about files, intervals or tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bird_training.evaluation.captioning import CaptionScorer
from bird_training.evaluation.predictions import Prediction, modality_order
from bird_training.evaluation.responses import (
    Clean,
    ReadBoxes,
    boxes_as_authors,
    clean_as_authors,
    names_every_word,
)
from bird_training.evaluation.scores import Score, share_score
from bird_vlm.boxes import BoxNorm, iou

_MIN_IOU = 0.5
_MBMR_PARTS = ("Bleu_4", "METEOR", "ROUGE_L")
Value = TypeVar("Value")  # a float or an array


@dataclass(frozen=True)
class Reading:
    """How responses are read: other model families have other ways to write boxes."""

    clean: Clean = clean_as_authors
    boxes: ReadBoxes = boxes_as_authors


@dataclass(frozen=True)
class Scored:
    """What a modality's answers to one task are worth."""

    predictions: list[Prediction]  # those that count
    scores: list[Score]  # each over all of them


def score_vg(predictions: Sequence[Prediction], reading: Reading) -> dict[str, Scored]:
    """Recall@0.5 by modality; modalities without an annotated box are left out."""
    return {
        modality: Scored(rows, [_vg_recall(rows, reading)])
        for modality, rows in by_modality(
            [p for p in predictions if reading.boxes(p.annotation)]
        ).items()
    }


def score_roc(predictions: Sequence[Prediction], reading: Reading) -> dict[str, Scored]:
    """Recall of names by modality."""
    return {
        modality: Scored(rows, [_name_recall(rows, reading)])
        for modality, rows in by_modality(predictions).items()
    }


def score_texts(
    predictions: Sequence[Prediction], reading: Reading, scorer: CaptionScorer
) -> dict[str, Scored]:
    """Caption metrics by modality (RC and MIA); only metrics that every modality has."""
    scored = {}
    for modality, rows in by_modality(predictions).items():
        answers = [reading.clean(row.response) for row in rows]
        scored[modality] = Scored(rows, scorer.score([row.annotation for row in rows], answers))
    if scorer.no_spice:
        scored = {name: _without_spice(found) for name, found in scored.items()}
    return scored


def by_modality(predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Predictions by modality, in the paper's order."""
    groups: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault(prediction.modality, []).append(prediction)
    return {name: groups[name] for name in modality_order(groups)}


def found_boxes(targets: Sequence[BoxNorm], answered: Sequence[BoxNorm]) -> int:
    """How many targets any answered box overlaps with an IoU above 0.5."""
    return sum(any(iou(box, target) > _MIN_IOU for box in answered) for target in targets)


def mbmr(values: Mapping[str, Value]) -> Value:
    """Mean of BLEU@4, METEOR and ROUGE-L."""
    return sum(values[name] for name in _MBMR_PARTS) / len(_MBMR_PARTS)


def _vg_recall(rows: Sequence[Prediction], reading: Reading) -> Score:
    targets = [reading.boxes(row.annotation) for row in rows]
    answered = [reading.boxes(reading.clean(row.response)) for row in rows]
    hits = [found_boxes(*pair) for pair in zip(targets, answered, strict=True)]
    return share_score("recall", hits, [len(boxes) for boxes in targets])


def _name_recall(rows: Sequence[Prediction], reading: Reading) -> Score:
    right = [names_every_word(row.annotation, reading.clean(row.response)) for row in rows]
    return share_score("recall", right, [1] * len(rows))


def _without_spice(scored: Scored) -> Scored:
    return Scored(scored.predictions, [s for s in scored.scores if s.names != ("SPICE",)])
