"""Predictions on disk: a folder of JSONL files, a line per question.

    {"id": "ct_btcv_0001", "image": "images/ct_btcv_0001.png", "question": "Where is ...?",
     "annotation": "<ref>liver</ref><box>(52,180),(611,790)</box>", "response": "...",
     "score": 0.97}

Optional keys: `score` (0..1, how sure the model is: of the object's presence in VG, of the name
in ROC), `modality`, `case` and `failed` (why there is no answer).
Knows nothing about models or measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bird_training.facts import TASKS
from bird_vlm.errors import BirdError

MODALITIES = ("ct", "mr", "x", "pet", "endoscopy", "dermoscopy", "fundus", "ultrasound")
_REQUIRED = ("id", "image", "question", "annotation", "response")


@dataclass(frozen=True)
class Prediction:
    """One question, what is right and what a model said."""

    id: str
    image: str
    question: str
    annotation: str
    response: str
    modality: str
    score: float | None = None  # 0..1
    case: str | None = None  # the patient, where the test set tells
    failed: bool = False  # no answer came; the response is empty


def read_predictions(folder: Path) -> dict[str, list[Prediction]]:
    """The predictions of the tasks that have a file in `folder`, by task.

    Raises BirdError where there is no such file, or a line is not a prediction.
    """
    found = {task: folder / f"{task}.jsonl" for task in TASKS}
    found = {task: path for task, path in found.items() if path.is_file()}
    if not found:
        raise BirdError(
            f"predictions: {folder} has none of {', '.join(f'{t}.jsonl' for t in TASKS)}; "
            f"write them with `medgrit predict --out {folder}`"
        )
    read = {task: [to_prediction(*row) for row in read_rows(path)] for task, path in found.items()}
    return {task: predictions for task, predictions in read.items() if predictions}


def read_rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The JSON objects of a JSONL file, each with its place ("VG.jsonl, line 3") for messages."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BirdError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f"{path}, line {number}"
            yield _parse_line(line, place, whole=number < len(lines)), place


def to_prediction(row: Mapping[str, Any], place: str) -> Prediction:
    """A line's prediction; `place` names the line in the message of the BirdError it may raise."""
    missing = [key for key in _REQUIRED if key not in row]
    if missing:
        raise BirdError(f"{place}: lacks {', '.join(map(repr, missing))}")
    for key in _REQUIRED[1:]:
        if not isinstance(row[key], str):
            raise BirdError(f"{place}: {key!r} must be text, got {row[key]!r}")
    case = row.get("case")
    return Prediction(
        *(str(row[key]) for key in _REQUIRED),
        modality=modality_of(row),
        score=_score(row.get("score"), place),
        case=None if case is None else str(case),
        failed=bool(row.get("failed")),
    )


def modality_of(row: Mapping[str, Any]) -> str:
    """The modality that a line or record states, or its id's or picture's text before the first _.

    >>> modality_of({"id": "pet_sts_03", "image": "a.png"})
    'pet'
    >>> modality_of({"id": 7, "image": "images/x_covid_1.png"})
    'x'
    """
    if "modality" in row:
        return str(row["modality"])
    names = (str(row["id"]), PurePosixPath(str(row["image"])).name)
    known = [name.split("_")[0] for name in names if name.split("_")[0] in MODALITIES]
    return known[0] if known else names[1].split("_")[0]


def modality_order(modalities: Sequence[str]) -> list[str]:
    """The paper's order of modalities, others behind."""
    rank = {name: place for place, name in enumerate(MODALITIES)}
    return sorted(set(modalities), key=lambda name: (rank.get(name, len(rank)), name))


def _parse_line(line: bytes, place: str, whole: bool) -> dict[str, Any]:
    """`whole` tells that the line has its end; a broken one without was interrupted."""
    advice = (
        "repair or remove it"
        if whole
        else "its writing was interrupted: the same `medgrit predict` command drops it and goes on"
    )
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BirdError(f"{place}: is not JSON ({error}); {advice}") from error
    if not isinstance(row, dict):
        raise BirdError(f"{place}: must hold a JSON object, got a {type(row).__name__}")
    return row


def _score(value: Any, place: str) -> float | None:
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise BirdError(f"{place}: 'score' must be a number between 0 and 1, got {value!r}")
    return float(value)
