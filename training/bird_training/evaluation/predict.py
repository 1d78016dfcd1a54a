"""A test set and a model in, a folder of predictions out; it goes on where it was interrupted.

Answers come in a fixed order and are appended batch by batch, so what is on disk is always the
beginning of the whole. A batch that was half written is asked again as a whole: answers do not
depend on where a run was interrupted. Knows nothing about models.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bird_training.evaluation.answering import Answer, Answerer
from bird_training.evaluation.predictions import read_rows
from bird_training.evaluation.questions import Question, by_picture, digest
from bird_training.facts import TASKS
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json

RUN_FILE = "run.json"  # which model answered which questions


def predict(
    questions: Sequence[Question],
    answerer: Answerer,
    out: Path,
    test_set: str = "",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Ask all questions that `out` does not answer yet; returns how many answers failed.

    Those that failed before are asked again, last and in their places.

    Writes `out/{VG,ROC,RC,MIA}.jsonl`, a line per question, and `out/run.json`. Raises BirdError
    where `out` holds answers of another model or to other questions, or is written by another
    process.
    """
    batches = by_picture(questions, answerer.batch)
    with _alone(out):
        _claim_folder(out, answerer, test_set, questions)
        ordered = [question for batch in batches for question in batch]
        rows = {task: _recover(out, task, ordered) for task in TASKS}
        again = _failed_before(rows, ordered)
        pending = list(_unfinished(batches, {task: len(found) for task, found in rows.items()}))
        answered = len(ordered) - sum(len(batch) for batch, _ in pending) - len(again)
        failed = 0
        on_progress(answered, len(ordered))
        replies = answerer.answer([batch for batch, _ in pending])
        for (batch, written), answers in zip(pending, replies, strict=True):
            _append(out, batch, answers, written)
            failed += sum(bool(answer.failed) for answer in answers)
            answered += len(batch)
            on_progress(answered, len(ordered))
        for answers in _ask_again(out, again, answerer):
            failed += sum(bool(answer.failed) for answer in answers)
            answered += len(answers)
            on_progress(answered, len(ordered))
    return failed


def prediction_line(question: Question, answer: Answer) -> dict:
    """One line of a predictions file."""
    line = {
        "id": question.id,
        "image": question.image,
        "question": question.question,
        "annotation": question.annotation,
        "response": answer.text,
        "score": answer.score,
        "modality": question.modality,
        "case": question.case,
        "failed": answer.failed or None,
    }
    return {key: value for key, value in line.items() if value is not None}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """The folder for one process; the system gives it back when the process dies."""
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise BirdError(f"out: another process writes into {out}; wait for it") from error
    except OSError as error:
        raise BirdError(f"out: {out} cannot be written ({error}); name another folder") from error
    try:
        yield
    finally:
        lock.release()


def _claim_folder(
    out: Path, answerer: Answerer, test_set: str, questions: Sequence[Question]
) -> None:
    """Writes who answers what, or checks that it is the same as before."""
    run = {
        "model": answerer.name,
        "fingerprint": answerer.fingerprint,
        "questions": digest(questions),
        "test_set": test_set,
        "asked": Counter(question.task for question in questions),
    }
    path = out / RUN_FILE
    if not path.is_file():
        if taken := [f"{task}.jsonl" for task in TASKS if (out / f"{task}.jsonl").exists()]:
            raise BirdError(
                f"out: {out} holds {taken[0]} of an unknown model; choose another folder"
            )
        write_json(path, run)
        return
    before = read_run(out)
    for key, what in (("model", "model"), ("fingerprint", "weights"), ("questions", "questions")):
        if before.get(key) != run[key]:
            raise BirdError(
                f"out: {out} holds answers of {before.get('model')!r} with other {what}; "
                "choose another folder, or remove it to start again"
            )
    if "asked" not in before:
        write_json(path, before | {"asked": run["asked"]})


def read_run(folder: Path) -> dict:
    """What `run.json` of a predictions folder says; {} where there is none."""
    path = folder / RUN_FILE
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BirdError(f"{path}: is not readable JSON ({error}); remove its folder") from error


def _recover(out: Path, task: str, ordered: Sequence[Question]) -> list[dict]:
    """The lines of a task that are there; a half-written last one is dropped."""
    path = out / f"{task}.jsonl"
    if not path.is_file():
        return []
    _drop_half_line(path)
    expected = [question for question in ordered if question.task == task]
    rows = list(read_rows(path))
    for number, (row, place) in enumerate(rows):
        if number >= len(expected) or not _answers(row, expected[number]):
            raise BirdError(f"{place}: answers another question than the test set asks there")
    return [row for row, _ in rows]


def _failed_before(
    rows: Mapping[str, Sequence[dict]], ordered: Sequence[Question]
) -> list[tuple[Question, int]]:
    """Questions whose lines tell of a failure, and the numbers of these lines in their files."""
    failed = []
    for task, found in rows.items():
        asked = (question for question in ordered if question.task == task)
        numbered = enumerate(zip(found, asked, strict=False))  # the rest has no line yet
        failed += [(question, number) for number, (row, question) in numbered if row.get("failed")]
    return failed


def _ask_again(
    out: Path, again: Sequence[tuple[Question, int]], answerer: Answerer
) -> Iterator[list[Answer]]:
    """Puts new answers in the place of those that failed."""
    places: dict[Question, list[int]] = {}  # a test set may ask the same twice
    for question, number in again:
        places.setdefault(question, []).append(number)
    batches = by_picture((question for question, _ in again), answerer.batch)
    for batch, answers in zip(batches, answerer.answer(batches), strict=True):
        fresh: dict[str, dict[int, dict]] = {}
        for question, answer in zip(batch, answers, strict=True):
            row = prediction_line(question, answer)
            fresh.setdefault(question.task, {})[places[question].pop(0)] = row
        for task, rows in fresh.items():
            _replace_rows(out / f"{task}.jsonl", rows)
        yield answers


def _answers(row: dict, question: Question) -> bool:
    return (row.get("id"), row.get("question")) == (question.id, question.question)


def _drop_half_line(path: Path) -> None:
    with path.open("r+b") as file:
        text = file.read()
        file.truncate(text.rfind(b"\n") + 1)


def _unfinished(
    batches: Sequence[list[Question]], done: dict[str, int]
) -> Iterator[tuple[list[Question], dict[str, int]]]:
    """Batches of which an answer is not on disk, and how many answers of each task are."""
    left = dict(done)
    for batch in batches:
        counts = {task: sum(question.task == task for question in batch) for task in TASKS}
        written = {task: min(left[task], counts[task]) for task in TASKS}
        left = {task: left[task] - written[task] for task in TASKS}
        if written != counts:
            yield batch, written


def _append(
    out: Path, batch: Sequence[Question], answers: Sequence[Answer], written: dict[str, int]
) -> None:
    """Adds a batch to the files, without the answers that they have."""
    for task in TASKS:
        pairs = [(q, a) for q, a in zip(batch, answers, strict=True) if q.task == task]
        rows = [prediction_line(*pair) for pair in pairs[written[task] :]]
        if rows:
            _append_rows(out / f"{task}.jsonl", rows)


def _append_rows(path: Path, rows: Sequence[dict], mode: str = "ab") -> None:
    """On disk, not just on the way there, when this returns."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        with path.open(mode) as file:
            file.write(text.encode(errors="replace"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BirdError(
            f"out: {path} cannot be written ({error}); make room, the same command goes on"
        ) from error


def _replace_rows(path: Path, fresh: Mapping[int, dict]) -> None:
    """New lines in the places of old ones; a crash leaves the old file or the new one."""
    rows = [fresh.get(number, row) for number, (row, _) in enumerate(read_rows(path))]
    unfinished = path.with_name(f".{path.name}.unfinished")
    _append_rows(unfinished, rows, mode="wb")
    unfinished.replace(path)
