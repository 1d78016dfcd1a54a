"""LLaVA-Med's question files as an MIA test set (the paper's LLaVA-Med-qa0.2k).

    {"question_id": 0, "image": "18063892_F3.jpg", "text": "What is the organ?\\n<image>",
     "gpt4_answer": "The organ in the image is ...", "fig_caption": "...", "domain": {...}}

Only `question_id`, `image`, `text` and `gpt4_answer` are needed. Answer files are LLaVA's:
`{"question_id": 0, "text": "..."}`. Knows nothing about models or measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bird_training.evaluation.predictions import Prediction, read_rows
from bird_vlm.errors import BirdError

MODALITY = "all"  # the paper reports one number for the whole set
_NEEDED = ("question_id", "image", "text", "gpt4_answer")


@dataclass(frozen=True)
class QaQuestion:
    """One question with its reference answer."""

    id: str
    image: str  # name of a picture that does not come with the file
    text: str
    answer: str


def read_qa_questions(path: Path) -> list[QaQuestion]:
    """The questions in their order. Raises BirdError where a line lacks something."""
    questions = [_question(row, place) for row, place in read_rows(path)]
    if not questions:
        raise BirdError(f"questions: {path} is empty")
    ids = [question.id for question in questions]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise BirdError(f"questions: {path} has question_id {twice!r} twice")
    return questions


def read_answers(path: Path, questions: Path | None) -> dict[str, list[Prediction]]:
    """An answer file beside the reference answers of `questions`, as MIA predictions.

    Raises BirdError where a question is not answered.
    """
    if questions is None:
        raise BirdError(
            f"predictions: {path} is no folder; name a folder that `medgrit predict` wrote, or "
            "add --questions with the question file that it answers"
        )
    said = dict(_answer(row, place) for row, place in read_rows(path))
    asked = read_qa_questions(questions)
    if missing := [question.id for question in asked if question.id not in said]:
        raise BirdError(
            f"predictions: {path} answers {len(asked) - len(missing)} of {len(asked)} questions of "
            f"{questions}; question_id {missing[0]} is missing"
        )
    return {"MIA": [_prediction(question, said[question.id]) for question in asked]}


def _question(row: Mapping[str, Any], place: str) -> QaQuestion:
    if missing := [key for key in _NEEDED if key not in row]:
        raise BirdError(f"{place}: lacks {', '.join(map(repr, missing))}")
    if not all(isinstance(row[key], str) for key in _NEEDED[1:]):
        raise BirdError(f"{place}: {', '.join(_NEEDED[1:])} must be text")
    text = row["text"].replace("<image>", "").strip()
    return QaQuestion(str(row["question_id"]), row["image"], text, row["gpt4_answer"])


def _answer(row: Mapping[str, Any], place: str) -> tuple[str, str]:
    text = row.get("text", row.get("response"))
    number = row.get("question_id", row.get("id"))
    if number is None or not isinstance(text, str):
        raise BirdError(f"{place}: needs 'question_id' and 'text'")
    return str(number), text


def _prediction(question: QaQuestion, response: str) -> Prediction:
    return Prediction(
        question.id, question.image, question.text, question.answer, response, MODALITY
    )
