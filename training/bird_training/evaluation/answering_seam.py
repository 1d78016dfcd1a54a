"""Models of any family as answerers, asked through the product's own engine.

A question of the test set is put as the product puts it to that family: where an object is, what a
box holds, or anything else in words. Places come back as the test set writes them, so that the
same measures apply. `answering_engine.py` asks BiRD in the words of the test set instead. Knows
nothing about files of predictions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from bird_training.conversations import Exchange
from bird_training.evaluation.answering import Answer
from bird_training.evaluation.answering_engine import folder_name, weights_fingerprint
from bird_training.evaluation.questions import Question
from bird_training.sources.reading import read_slice_picture
from bird_training.tuning.rewording import place_of
from bird_vlm.answers import PictureAnswer
from bird_vlm.backend import UnansweredError
from bird_vlm.boxes import BoxNorm
from bird_vlm.catalogue.names import model_path
from bird_vlm.engine import load_engine
from bird_vlm.errors import BadRequestError, BirdError, GrammarError
from bird_vlm.grammar import format_absent, format_present, parse_grounding
from bird_vlm.running import USUAL, Running

_BOX = re.compile("<box>.*?</box>", re.DOTALL)
_MARK = re.compile("</?ref>")


class SeamAnswerer:
    """One model of whatever family the engine runs, on this machine or elsewhere.

    With `keep_failed`, what the model cannot be asked gets an empty answer that says why.
    """

    def __init__(
        self, model: str, running: Running = USUAL, batch: int = 32, keep_failed: bool = False
    ) -> None:
        self._engine, self._keep_failed = load_engine(model, running), keep_failed
        elsewhere = running.backend
        if elsewhere is None:
            folder = model_path(model)
            self.name, self.fingerprint = folder_name(folder), weights_fingerprint(folder)
            self.batch, self._at_once = batch, 1
        else:
            name, address = self._engine.card.id, elsewhere.url.rstrip("/")
            dialect = elsewhere.dialect_for(model).name
            self.name, self.fingerprint = name, f"{name} at {address} in {dialect}"
            self.batch = self._at_once = elsewhere.concurrency

    def answer(self, batches: Iterable[Sequence[Question]]) -> Iterator[list[Answer]]:
        """Answers batch by batch; a picture is read once in its batch.

        Words that cannot be read are no answer, and say why. Raises BirdError, with the
        question's id, where a question cannot be put and failures are not kept.
        """
        with ThreadPoolExecutor(self._at_once) as threads:
            for batch in batches:
                features = {
                    path: self._engine.encode([read_slice_picture(path)])
                    for path in {question.picture for question in batch}
                }
                pictures = [features[question.picture] for question in batch]
                yield list(threads.map(self._answer, batch, pictures))

    def _answer(self, asked: Question, features: torch.Tensor) -> Answer:
        try:
            return self._place(asked, features) or self._words(asked, features)
        except GrammarError as error:
            return Answer("", failed=str(error))
        except (BadRequestError, UnansweredError) as error:
            if self._keep_failed:
                return Answer("", failed=str(error))
            raise BirdError(
                f"{asked.id}: {error} (the same command goes on from here, --keep-failed without "
                "this answer)"
            ) from error

    def _place(self, asked: Question, features: torch.Tensor) -> Answer | None:
        """None where the question asks for something else."""
        label = _label(asked)
        if not label:
            return None
        ((found,),) = self._engine.ground(features, [label])
        score = round(found.presence, 6) if asked.task == "VG" else None
        return Answer(_said(label, found), score)

    def _words(self, asked: Question, features: torch.Tensor) -> Answer:
        box_norm = _one_box(asked)
        if box_norm is None:
            told = self._engine.ask(features, _with_history(asked))
        else:
            told = self._engine.refer(features, box_norm, asked.task.lower())
        return Answer(told.text, round(told.score, 6) if asked.task == "ROC" else None)


def _label(asked: Question) -> str:
    """The object whose place is asked for; "" where the question is another."""
    found = place_of(Exchange(asked.text, asked.annotation))
    if found is None and asked.task == "VG":
        raise BadRequestError(
            f"question: {asked.text!r} does not name the object of its annotation "
            f"{asked.annotation!r}; a VG question asks for the place of one object"
        )
    return found.label if found else ""


def _one_box(asked: Question) -> BoxNorm | None:
    """The one box that a question for words is about, else None."""
    boxes = _BOX.findall(asked.text)
    if asked.task not in ("ROC", "RC") or len(boxes) != 1:
        return None
    try:
        return parse_grounding(boxes[0]).boxes_norm[0]
    except GrammarError as error:
        raise BadRequestError(f"question: {error}; correct the test set") from error


def _said(label: str, found: PictureAnswer) -> str:
    """As the test set writes it; an answer that could not be read stays as it is."""
    if found.unreadable:
        return found.text
    return format_present(label, found.boxes_norm) if found.boxes_norm else format_absent(label)


def _with_history(asked: Question) -> str:
    """The question behind what was said before, which an engine is not told otherwise."""
    turns = [f"Question: {question}\nAnswer: {answer}\n" for question, answer in asked.history]
    return _MARK.sub("", "".join([*turns, asked.text]))
