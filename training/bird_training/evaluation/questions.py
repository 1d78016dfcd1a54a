"""What a model is asked: the questions of a test set, each with its picture and what is right.

Knows files; knows nothing about models, answers or measures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bird_training.conversations import Conversation, read_conversations, stream_records
from bird_training.evaluation.predictions import modality_of, read_rows
from bird_training.evaluation.qa_sets import MODALITY, QaQuestion, read_qa_questions
from bird_training.facts import TASKS
from bird_vlm.errors import BirdError

FACTS_FILE = "facts.jsonl"  # of a build: what is known of each picture


@dataclass(frozen=True)
class Question:
    """One question about one picture."""

    task: str  # VG, ROC, RC or MIA
    id: str
    image: str  # as the test set writes it
    picture: Path  # where it is
    question: str  # as the test set writes it
    text: str  # without the line that brings in the picture
    annotation: str
    history: tuple[tuple[str, str], ...] = ()  # what was asked and rightly answered before
    modality: str | None = None  # where id and image do not tell
    case: str | None = None


def read_test_set(data: Path, images: Path | None = None) -> list[Question]:
    """The questions of a folder of released files (`OUT/test`), by task and in their order.

    A later turn of a conversation is asked with the annotated turns before it. Raises BirdError
    where there is no file, or a record or its picture is not usable.
    """
    files = {task: data / f"{task}.json" for task in TASKS}
    files = {task: path for task, path in files.items() if path.is_file()}
    if not files:
        names = ", ".join(f"{task}.json" for task in TASKS)
        raise BirdError(
            f"data: {data} has none of {names}; give the test folder of `medgrit build`"
        )
    cases = _cases(data / FACTS_FILE)
    found = [q for task, path in files.items() for q in _questions(task, path, images, cases)]
    if not found:
        raise BirdError(f"data: the files in {data} hold no questions")
    return found


def read_qa_set(path: Path, images: Path | None) -> list[Question]:
    """The questions of a LLaVA-Med question file, as MIA, with their pictures under `images`.

    Raises BirdError where pictures are missing.
    """
    asked = read_qa_questions(path)
    names = list(dict.fromkeys(question.image for question in asked))
    if images is None:
        raise BirdError(
            f"questions: {path} names {len(names)} pictures, such as {names[0]}, and brings none; "
            "add --images with the folder that holds them, or score a file of answers with "
            f"`medgrit evaluate --predictions ANSWERS.jsonl --questions {path}`"
        )
    missing = [name for name in names if not (images / name).is_file()]
    if missing:
        raise BirdError(
            f"images: {images} lacks {len(missing)} of the {len(names)} pictures of {path}, "
            f"such as {missing[0]}"
        )
    return [_qa_question(question, images) for question in asked]


def by_picture(questions: Iterable[Question], size: int) -> list[list[Question]]:
    """Batches of whole pictures with all their questions: `size` questions, or one picture's.

    Pictures come in the order in which they first appear, their questions task by task.
    """
    pictures: dict[Path, list[Question]] = {}
    for question in questions:
        pictures.setdefault(question.picture, []).append(question)
    batches: list[list[Question]] = []
    for asked in pictures.values():
        if not batches or len(batches[-1]) + len(asked) > size:
            batches.append([])
        batches[-1] += asked
    return batches


def digest(questions: Sequence[Question]) -> str:
    """A name for exactly these questions in this order."""
    sha = hashlib.sha256()
    for q in questions:
        sha.update(repr((q.task, q.id, q.image, q.question, q.annotation)).encode())
    return sha.hexdigest()[:16]


def _cases(facts: Path) -> dict[str, str]:
    """The patient of every picture, by its id, where the build tells."""
    if not facts.is_file():
        return {}
    rows = [row for row, _ in read_rows(facts) if {"id", "dataset", "case"} <= row.keys()]
    return {row["id"]: f"{row['dataset']}/{row['case']}" for row in rows}


def _questions(
    task: str, path: Path, images: Path | None, cases: Mapping[str, str]
) -> Iterator[Question]:
    talks = read_conversations([path], images)
    for record, talk in zip(stream_records(path), talks, strict=True):
        (picture,) = _one_picture(talk)
        written = str(record.get("image") or picture.name)
        turns = tuple((exchange.question, exchange.answer) for exchange in talk.exchanges)
        modality = modality_of({**record, "id": talk.id, "image": written})
        for number, (text, annotation) in enumerate(turns):
            yield Question(
                task,
                talk.id,
                written,
                picture,
                record["conversations"][number][0],
                text,
                annotation,
                turns[:number],
                modality,
                cases.get(talk.id),
            )


def _one_picture(talk: Conversation) -> tuple[Path, ...]:
    if len(talk.pictures) != 1:
        raise BirdError(
            f"{talk.origin}: has {len(talk.pictures)} pictures; questions about one are supported"
        )
    return talk.pictures


def _qa_question(asked: QaQuestion, images: Path) -> Question:
    return Question(
        "MIA",
        asked.id,
        asked.image,
        images / asked.image,
        asked.text,
        asked.text,
        asked.answer,
        modality=MODALITY,
    )
