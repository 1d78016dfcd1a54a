"""Questions about a volume: which slices to show, and what their answers mean in 3D.

Puts slices, engine and linking together; knows nothing about tokens, files or HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from bird_vlm.boxes import norm_to_pixel, pixel_to_norm
from bird_vlm.contract import (
    MAX_QUESTION_CHARACTERS,
    AskingResult,
    GroundingRequest,
    GroundingResult,
    Plane,
    Progress,
    ReferringRequest,
    ReferringResult,
    SliceBox,
    check_plane,
    check_window,
)
from bird_vlm.engine import Engine, ModelCard, PictureAnswer
from bird_vlm.errors import BadRequestError, UnknownLabelError
from bird_vlm.labels import natural_name, side_of, without_side
from bird_vlm.linking import link_findings
from bird_vlm.slices import SliceStack, slice_stack
from bird_vlm.volumes import Volume
from bird_vlm.windows import Window, automatic_window, slice_picture

_SLICES_AT_ONCE = 8


def check_labels(card: ModelCard, labels: Sequence[str]) -> None:
    """Raises UnknownLabelError for labels that the model was not trained on.

    A model that does not say what it knows is asked anything.
    """
    known = card.known_labels | {without_side(label) for label in card.known_labels}
    unknown = [label for label in labels if natural_name(label) not in known]
    if card.labels and unknown:
        raise UnknownLabelError(
            f"labels: {', '.join(map(repr, unknown))} not in this model's training; "
            f"{card.id} knows {', '.join(sorted(card.known_labels))}"
        )


def grounding_events(
    engine: Engine, volume: Volume, request: GroundingRequest
) -> Iterator[Progress | GroundingResult]:
    """Answer a request: a Progress per batch of slices, then the GroundingResult.

    The request is checked before this returns. Whoever stops iterating cancels the rest. Raises
    UnknownLabelError, and BadRequestError where the slices lie outside the volume.
    """
    check_labels(engine.card, request.labels)
    stack = _stack(volume, request.plane)
    indices = _order(_range(stack, request.slices), request.near)
    return _ground(engine, volume, stack, indices, request)


def refer(engine: Engine, volume: Volume, request: ReferringRequest) -> ReferringResult:
    """Name or describe what a box holds, on its middle slice.

    Raises BadRequestError where the box lies outside the volume.
    """
    stack = _stack(volume, request.plane)
    index, box_pixel = stack.box_from_ras(request.box_ras)
    box_norm = pixel_to_norm(box_pixel, stack.width, stack.height)
    features = engine.encode([slice_picture(volume, stack, index, request.window)])
    answer = engine.refer(features, box_norm, request.task)
    return ReferringResult(
        model=engine.card.id,
        task=request.task,
        text=answer.text,
        score=answer.score,
        slice=index,
        plane=stack.plane,
        box_pixel=box_pixel,
    )


def ask(
    engine: Engine,
    volume: Volume,
    question: str,
    plane: Plane = "axial",
    index: int | None = None,
    window: Window | None = None,
) -> AskingResult:
    """Answer a free question about slice `index` (the middle one by default)."""
    question = " ".join(question.split())
    if not 0 < len(question) <= MAX_QUESTION_CHARACTERS:
        raise BadRequestError(
            f"question: needs 1 to {MAX_QUESTION_CHARACTERS} characters, got {len(question)}"
        )
    check_plane(plane)
    check_window(window)
    stack = _stack(volume, plane)
    index = stack.count // 2 if index is None else index
    answer = engine.ask(engine.encode([slice_picture(volume, stack, index, window)]), question)
    return AskingResult(engine.card.id, answer.text, answer.score, index, stack.plane)


def _stack(volume: Volume, plane: Plane) -> SliceStack:
    """The stack of a plane; a single picture has one plane only, whatever was asked."""
    geometry = volume.geometry()
    if not volume.is_picture:
        return slice_stack(geometry, plane)
    stacks = [slice_stack(geometry, name) for name in ("axial", "coronal", "sagittal")]
    return next(stack for stack in stacks if stack.count == 1)


def _range(stack: SliceStack, slices: tuple[int, int] | None) -> range:
    if slices is None:
        return range(stack.count)
    if slices[1] > stack.count:
        raise BadRequestError(
            f"slices: {slices[0]}:{slices[1]} exceeds the {stack.count} {stack.plane} slices"
        )
    return range(*slices)


def _order(indices: range, near: int | None) -> list[int]:
    return list(indices) if near is None else sorted(indices, key=lambda k: (abs(k - near), k))


def _ground(
    engine: Engine,
    volume: Volume,
    stack: SliceStack,
    indices: Sequence[int],
    request: GroundingRequest,
) -> Iterator[Progress | GroundingResult]:
    window = None if volume.is_colour else request.window or automatic_window(volume)
    questions = [Question(label, stack, engine.card) for label in request.labels]
    boxes: dict[str, list[SliceBox]] = {label: [] for label in request.labels}
    timing_s = {"encode": 0.0, "answer": 0.0}
    unreadable = done = 0
    for batch in _batches(indices, _SLICES_AT_ONCE):
        started = time.perf_counter()
        features = engine.encode([slice_picture(volume, stack, k, window) for k in batch])
        encoded = time.perf_counter()
        answers = engine.ground(features, [q.words for q in questions], request.threshold)
        timing_s["encode"] += encoded - started
        timing_s["answer"] += time.perf_counter() - encoded
        found = []
        for index, row in zip(batch, answers, strict=True):
            for question, answer in zip(questions, row, strict=True):
                found += [(question.label, box) for box in question.boxes(index, answer)]
                unreadable += answer.unreadable
        for label, box in found:
            boxes[label].append(box)
        done += len(batch) * len(questions)
        yield Progress(done, len(indices) * len(questions), tuple(found))
    findings = [
        finding
        for label in request.labels
        for finding in link_findings(label, boxes[label], stack, len(indices))
    ]
    seen = {finding.label for finding in findings}
    yield GroundingResult(
        volume=volume.geometry(),
        model=engine.card.id,
        plane=stack.plane,
        window=window,
        findings=tuple(findings),
        absent=tuple(label for label in request.labels if label not in seen),
        unreadable=unreadable,
        timing_s={name: round(seconds, 3) for name, seconds in timing_s.items()},
    )


class Question:
    """One label, in the words that a slice of this plane can answer.

    A sagittal slice looks the same on both sides. Where the model knows the object without its
    side, it is asked for that, and the slice's own position tells the side.
    """

    def __init__(self, label: str, stack: SliceStack, card: ModelCard) -> None:
        self.label, self.stack = label, stack
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


def _batches(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
