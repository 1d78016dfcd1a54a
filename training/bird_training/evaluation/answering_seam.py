"""Models of any family as answerers, asked through the product's own engine.

A question of the test set is put as the product puts it to that family: where an object is, what a
box holds, or anything else in words. Places come back as the test set writes them, so that the
same measures apply. `answering_engine.py` asks BiRD in the words of the test set instead. Knows
nothing about files of predictions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import torch

from bird_training.conversations import Exchange
from bird_training.evaluation.answering import Answer
from bird_training.evaluation.answering_engine import folder_name, weights_fingerprint
from bird_training.evaluation.questions import Question
from bird_training.sources.reading import read_slice_picture
from bird_training.tuning.rewording import place_of
from bird_vlm.answers import PictureAnswer
from bird_vlm.catalogue.names import model_path
from bird_vlm.engine import load_engine
from bird_vlm.errors import BadRequestError, GrammarError
from bird_vlm.grammar import format_absent, format_present, parse_grounding
from bird_vlm.running import USUAL, Running

_BOX = re.compile("<box>.*?</box>", re.DOTALL)
_MARK = re.compile("</?ref>")


class SeamAnswerer:
    """One model on this machine, of whatever family the engine runs."""

    def __init__(self, model: str, running: Running = USUAL, batch: int = 32) -> None:
        folder = model_path(model)
        self.name, self.fingerprint = folder_name(folder), weights_fingerprint(folder)
        self.batch = batch
        self._engine = load_engine(model, running)

    def answer(self, batches: Iterable[Sequence[Question]]) -> Iterator[list[Answer]]:
        """Answers batch by batch; a picture is read once in its batch.

        Raises BadRequestError, with the question's id, where a question cannot be put.
        """
        for batch in batches:
            features = {
                path: self._engine.encode([read_slice_picture(path)])
                for path in {question.picture for question in batch}
            }
            yield [self._answer(question, features[question.picture]) for question in batch]

    def _answer(self, asked: Question, features: torch.Tensor) -> Answer:
        try:
            if label := _label(asked):
                ((found,),) = self._engine.ground(features, [label])
                score = round(found.presence, 6) if asked.task == "VG" else None
                return Answer(_said(label, found), score)
            boxes = _BOX.findall(asked.text)
            if asked.task in ("ROC", "RC") and len(boxes) == 1:
                box_norm = parse_grounding(boxes[0]).boxes_norm[0]
                told = self._engine.refer(features, box_norm, asked.task.lower())
            else:
                told = self._engine.ask(features, _with_history(asked))
        except (BadRequestError, GrammarError) as error:
            raise BadRequestError(f"{asked.id}: {error}") from error
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


def _said(label: str, found: PictureAnswer) -> str:
    """As the test set writes it; an answer that could not be read stays as it is."""
    if found.unreadable:
        return found.text
    return format_present(label, found.boxes_norm) if found.boxes_norm else format_absent(label)


def _with_history(asked: Question) -> str:
    """The question behind what was said before, which an engine is not told otherwise."""
    turns = [f"Question: {question}\nAnswer: {answer}\n" for question, answer in asked.history]
    return _MARK.sub("", "".join([*turns, asked.text]))
