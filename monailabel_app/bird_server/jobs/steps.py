"""How each kind of question is answered, step by step.

A job is a generator. It yields `Device` to be given a model, `Errand`s, which are done beside the
device so that nobody waits for a disk, and `Told`s for its listeners; it returns the answer.
Between any two steps other jobs may go on, and it may be closed. Knows nothing about threads or
HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

from bird_server.jobs.questions import (
    AskQuestion,
    BatchQuestion,
    GroundQuestion,
    Question,
)
from bird_server.model import Model
from bird_vlm.contract import (
    AskingResult,
    GroundingRequest,
    GroundingResult,
    Plane,
    Progress,
    ReferringRequest,
    ReferringResult,
    SliceBox,
    to_json,
)
from bird_vlm.volumes import Volume

Result = GroundingResult | ReferringResult | AskingResult


@dataclass(frozen=True)
class Kept:
    """What became of an answer in the review store."""

    review: dict[str, Any] | None = None  # volume_digest and the ids of its findings
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a volume comes from, for those who review what is found in it."""

    name: str  # as people call it
    volume_id: str | None = None  # of an upload
    study: str | None = None  # its path within the studies folder


class Desk(Protocol):
    """Where volumes come from and answers go; every call may wait for a disk."""

    def sourced_volume(self, volume_id: str) -> tuple[Volume, Source]:
        """A stored volume. Raises UnknownVolumeError."""

    def put_forward(
        self, volume: Volume, source: Source, result: GroundingResult, version: str
    ) -> Kept:
        """Proposes an answer for review; what goes wrong with that is a warning."""

    def told(self, error: Exception, job_id: str = "") -> dict[str, Any]:
        """`error` as its client should read it: status, error, detail, hint."""


@dataclass(frozen=True)
class Device:
    """A wish for the model of whichever device is free."""


@dataclass(frozen=True)
class Errand:
    """Something to be done beside the device; what it returns or raises comes back."""

    run: Callable[[], Any]


@dataclass(frozen=True)
class Told:
    """Something for the listeners."""

    name: str  # progress or item
    done: int
    total: int
    fields: dict[str, Any] = field(default_factory=dict)
    event: Progress | None = None  # for listeners of this process


@dataclass(frozen=True)
class Answer:
    """What a job ends with."""

    result: dict[str, Any]  # JSON
    kept: Kept = Kept()
    value: Result | None = None  # for listeners of this process; None for a batch

    def fields(self) -> dict[str, Any]:
        return {"result": self.result, **asdict(self.kept)}


Steps = Generator[Device | Errand | Told, Any, Answer]


def steps_of(question: Question, desk: Desk) -> Steps:
    """The steps of a question about stored volumes."""
    if isinstance(question, BatchQuestion):
        return _batch(question, desk)
    return _single(question, desk)


def grounding(
    volume: Volume, source: Source | None, request: GroundingRequest, desk: Desk
) -> Steps:
    """Progress per batch of slices; the result is kept for review where the source is known."""
    model: Model = yield Device()
    found = _Found()
    with closing(model.grounding_events(volume, request)) as events:
        while not isinstance(event := next(events), GroundingResult):
            yield Told("progress", event.done, event.total, found.fields(event), event)
    kept = Kept()
    if source is not None:
        kept = yield Errand(partial(desk.put_forward, volume, source, event, model.version))
    return Answer(to_json(event), kept, event)


def referring(volume: Volume, request: ReferringRequest) -> Steps:
    model: Model = yield Device()
    return _answer(model.refer(volume, request))


def asking(
    volume: Volume, question: str, plane: Plane, index: int, window: tuple[float, float] | None
) -> Steps:
    model: Model = yield Device()
    return _answer(model.ask(volume, question, plane, index, window))


def _single(question: Question, desk: Desk) -> Steps:
    volume, source = yield Errand(partial(desk.sourced_volume, question.volume_id))
    if isinstance(question, GroundQuestion):
        return (yield from grounding(volume, source, question.request(), desk))
    if isinstance(question, AskQuestion):
        asked = (question.question, question.plane, question.slice, question.window)
        return (yield from asking(volume, *asked))
    return (yield from referring(volume, question.request()))


def _batch(batch: BatchQuestion, desk: Desk) -> Steps:
    items: list[dict[str, Any]] = []
    for number, question in enumerate(batch.questions):
        item = yield from _item(number, len(batch.questions), question, desk)
        items.append({"item": number, **item})
        yield Told("item", number + 1, len(batch.questions), items[-1])
    failed = sum(item["error"] is not None for item in items)
    return Answer({"items": items, "failed": failed})


def _item(number: int, count: int, question: Question, desk: Desk) -> Generator[Any, Any, dict]:
    """One question of a batch; its progress is told as a part of the whole."""
    steps, inbox = _single(question, desk), None
    with closing(steps):
        try:
            while True:
                step = steps.send(inbox)
                if isinstance(step, Told):
                    part = {"part": step.done, "parts": step.total, "item": number}
                    step = Told("progress", number, count, step.fields | part)
                inbox = yield step
        except StopIteration as end:
            return {"error": None, **end.value.fields()}
        except Exception as error:
            told = desk.told(error)
            failure = {name: told[name] for name in ("error", "detail", "hint")}
            return {"error": failure, "result": None, **asdict(Kept())}


def _answer(result: ReferringResult | AskingResult) -> Answer:
    return Answer(to_json(result), value=result)


class _Found:
    """The boxes of a grounding so far, by label: first and last slice, how many, the best score."""

    def __init__(self) -> None:
        self._boxes: dict[str, list[SliceBox]] = {}

    def fields(self, progress: Progress) -> dict[str, Any]:
        for label, box in progress.boxes:
            self._boxes.setdefault(label, []).append(box)
        boxes = [{"label": label, **to_json(box)} for label, box in progress.boxes]
        return {"boxes": boxes, "findings": [self._partial(label) for label in self._boxes]}

    def _partial(self, label: str) -> dict[str, Any]:
        boxes = self._boxes[label]
        slices = [box.slice for box in boxes]
        best = max(box.score for box in boxes)
        extent = [min(slices), max(slices)]
        return {"label": label, "slices": extent, "boxes": len(boxes), "score": best}
