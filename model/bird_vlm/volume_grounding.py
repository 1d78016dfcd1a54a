"""One grounding request on its way through the slices of a volume.

Puts search, slices, engine and linking together; knows nothing about tokens, files or HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from bird_vlm.answers import PictureAnswer
from bird_vlm.boxes import norm_to_pixel
from bird_vlm.contract import GroundingRequest, GroundingResult, Progress, SliceBox
from bird_vlm.engine import Engine
from bird_vlm.labels import natural_name, side_of, without_side
from bird_vlm.linking import link_findings
from bird_vlm.model_card import ModelCard
from bird_vlm.search import CoarseToFine, Exhaustive, Round, Search
from bird_vlm.slice_features import SliceFeatures
from bird_vlm.slices import SliceStack
from bird_vlm.volumes import Volume
from bird_vlm.windows import Window

_SLICES_AT_ONCE = 32


class VolumeGrounding:
    """What is asked, and what has been found so far."""

    def __init__(
        self,
        engine: Engine,
        volume: Volume,
        stack: SliceStack,
        window: Window | None,
        request: GroundingRequest,
    ) -> None:
        self.engine, self.volume, self.stack, self.window = engine, volume, stack, window
        self.request = request
        self.questions = [Question(label, stack, engine.card) for label in request.labels]
        self.features = SliceFeatures(engine, volume, stack, window)
        self.boxes: dict[str, list[SliceBox]] = {label: [] for label in request.labels}
        self.timing_s = {"encode": 0.0, "answer": 0.0}
        self.unreadable = 0

    @property
    def asked(self) -> int:
        """Questions about slices, so far."""
        return sum(len(question.asked) for question in self.questions)

    def events(self, indices: Sequence[int]) -> Iterator[Progress | GroundingResult]:
        """Ask about slices, those first that come first: a Progress per batch, then the result."""
        search = self._search(indices)
        for asked in search.rounds():
            total = self.asked + sum(map(len, asked.values()))
            for questions, batch in _batches(asked):
                found = self._ask(questions, batch, search)
                yield Progress(self.asked, total, tuple(found))
        yield self._result()

    def _search(self, indices: Sequence[int]) -> Search:
        if self.request.search == "exhaustive":
            return Exhaustive(indices, len(self.questions))
        return CoarseToFine(indices, len(self.questions), self.stack.spacing_mm)

    def _ask(
        self, numbers: Sequence[int], batch: Sequence[int], search: Search
    ) -> list[tuple[str, SliceBox]]:
        """Some questions about some slices; the boxes by label."""
        started = time.perf_counter()
        shown = self.features.of(batch)
        encoded = time.perf_counter()
        questions = [self.questions[number] for number in numbers]
        words = [question.words for question in questions]
        names = self.features.names(batch)
        answers = self.engine.ground(shown, words, self.request.threshold, names)
        self.timing_s["encode"] += encoded - started
        self.timing_s["answer"] += time.perf_counter() - encoded
        found = []
        for index, row in zip(batch, answers, strict=True):
            for number, question, answer in zip(numbers, questions, row, strict=True):
                question.asked.append(index)
                boxes = question.boxes(index, answer)
                search.tell(number, index, tuple(answer.boxes_norm) if boxes else ())
                found += [(question.label, box) for box in boxes]
                self.unreadable += answer.unreadable
        for label, box in found:
            self.boxes[label].append(box)
        return found

    def _result(self) -> GroundingResult:
        findings = [
            finding
            for question in self.questions
            for finding in link_findings(
                question.label, self.boxes[question.label], self.stack, question.asked
            )
        ]
        seen = {finding.label for finding in findings}
        return GroundingResult(
            volume=self.volume.geometry(),
            model=self.engine.card.id,
            plane=self.stack.plane,
            window=self.window,
            findings=tuple(findings),
            absent=tuple(label for label in self.request.labels if label not in seen),
            unreadable=self.unreadable,
            asked=self.asked,
            timing_s={name: round(seconds, 3) for name, seconds in self.timing_s.items()},
        )


class Question:
    """One label, in the words that a slice of this plane can answer.

    A sagittal slice looks the same on both sides. Where the model knows the object without its
    side, it is asked for that, and the slice's own position tells the side.
    """

    def __init__(self, label: str, stack: SliceStack, card: ModelCard) -> None:
        self.label, self.stack = label, stack
        self.asked: list[int] = []  # slices
        self.words = natural_name(label)
        sideless = without_side(self.words)
        known = stack.plane == "sagittal" and sideless in card.known_labels
        self.side = side_of(self.words) if known else ""
        if self.side:
            self.words = sideless

    def boxes(self, index: int, answer: PictureAnswer) -> list[SliceBox]:
        """The boxes of an answer to this question about slice `index`."""
        if self.side and self._slice_side(index) != self.side:
            return []
        stack, boxes = self.stack, []
        for box_norm, score in zip(answer.boxes_norm, answer.scores, strict=True):
            box_pixel = norm_to_pixel(box_norm, stack.width, stack.height)
            corners_ras = stack.corners_ras(index, box_pixel)
            score = round(answer.presence * score, 4)
            boxes.append(SliceBox(index, score, box_pixel, corners_ras))
        return boxes

    def _slice_side(self, index: int) -> str:
        towards_right = self.stack.pixel_to_ras(index)[0, 2]  # mm per slice
        offset = (index - (self.stack.count - 1) / 2) * towards_right
        return "right" if offset > 0 else "left"


def _batches(asked: Round) -> Iterator[tuple[list[int], Sequence[int]]]:
    """Questions about the same slices together; one slice first, then twice as many each time."""
    together: dict[tuple[int, ...], list[int]] = {}
    for question, indices in asked.items():
        together.setdefault(tuple(indices), []).append(question)
    size = 1
    for indices, questions in together.items():
        start = 0
        while start < len(indices):
            yield questions, indices[start : start + size]
            start, size = start + size, min(2 * size, _SLICES_AT_ONCE)
