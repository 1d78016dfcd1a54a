"""Training on what reviewers accepted and edited: MONAI Label's train task.

Lessons are written from the reviews, a part of the cases is held out, the model in use answers the
held-out questions, adapters are trained in a process of their own, the new version answers the same
questions. It takes over, without a restart, only if it is not worse. Knows nothing about HTTP.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from bird_server.learning.model_versions import ModelVersions, versions_of
from bird_server.learning.tasks import Task, current_task
from bird_server.service import Service, current
from bird_server.volumes.reviewed_volumes import LostVolumeError, ReviewedVolumes
from bird_vlm.catalogue.names import model_path
from bird_vlm.errors import BadRequestError
from lib.learning import medgrit
from lib.learning.judging import Judgement, by_label, judge
from lib.learning.lessons import Lesson, Written, write_lessons
from lib.learning.truths import truths

DEFAULTS = {  # what Slicer's plugin shows as options
    "max_minutes": 60.0,
    "epochs": 4.0,
    "steps": 0,  # in place of epochs; 0 = by epochs
    "learning_rate": 0.0,  # 0 = the recipe's
    "held_out": 0.25,  # share of the cases that judge
    "slices": 40,  # of a case and plane, at most
}


@dataclass(frozen=True)
class Options:
    """What a training is asked for."""

    max_minutes: float
    epochs: float
    steps: int
    learning_rate: float
    held_out: float
    slices: int

    def __post_init__(self) -> None:
        for name, good, wanted in (
            ("max_minutes", 0 < self.max_minutes <= 10_000, "above 0 and at most 10000"),
            ("epochs", 0 < self.epochs <= 1000, "above 0 and at most 1000"),
            ("steps", 0 <= self.steps <= 1_000_000, "from 0 to 1000000"),
            ("learning_rate", 0 <= self.learning_rate <= 1, "from 0 to 1"),
            ("held_out", 0 < self.held_out < 1, "between 0 and 1"),
            ("slices", 1 <= self.slices <= 2000, "from 1 to 2000"),
        ):
            if not good:
                raise BadRequestError(f"{name}: must be {wanted}, got {getattr(self, name)}")

    @classmethod
    def of(cls, request: dict[str, Any]) -> Options:
        """From a request's own values and the defaults. Raises BadRequestError."""
        told = {name: request.get(name, default) for name, default in DEFAULTS.items()}
        return cls(**{name: _number(name, value) for name, value in told.items()})

    @property
    def effort(self) -> medgrit.Effort:
        return medgrit.Effort(self.epochs, self.steps or None, self.learning_rate or None)


class ReviewedBoxes(TrainTask):
    """LoRA on the boxes that people accepted, edited and drew."""

    def __init__(self) -> None:
        super().__init__("Trains the model on accepted and edited boxes; keeps it if not worse")
        self._last: dict[str, Any] = {}

    def config(self) -> dict[str, Any]:
        return dict(DEFAULTS)

    def stats(self) -> dict[str, Any]:
        """As Slicer's plugin shows it: `best_metric` is the recall of the last training."""
        return dict(self._last)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Trains, judges and, if the new version is not worse, answers from it.

        Returns both judgements and what became of the version. Raises BadRequestError where there
        is too little to learn from, CommandFailedError, TaskStoppedError, CheckpointError.
        """
        options, task, service = Options.of(request), current_task(), current()
        began = time.monotonic()
        training = _Training(service, versions_of(service), options, task)
        with training.versions.kept.workplace() as place:
            outcome = training.run(place, began + 60 * options.max_minutes)
        outcome["seconds"] = round(time.monotonic() - began, 1)
        self._last = _stats(outcome)
        return outcome


class _Training:
    """One training from lessons to the version's end."""

    def __init__(
        self, service: Service, versions: ModelVersions, options: Options, task: Task
    ) -> None:
        self.service, self.versions = service, versions
        self.options, self.task = options, task
        self.skipped: list[str] = []
        self.seconds: dict[str, float] = {}  # by phase

    def run(self, place: Path, until: float) -> dict[str, Any]:
        name, base = self.versions.model()
        runner = medgrit.Runner(self.task, until, self.service.card.device)
        runner.check()
        weights = model_path(name)
        with self._timed("lessons"):
            written = self._write(place / "lessons")
        with self._timed("before"):
            before = self._judge(runner, weights, place, "before", written)
        with self._timed("training"):
            made = self._train(runner, weights, place)
        with self._timed("after"):
            after = self._judge(runner, made, place, "after", written)
        told = {
            "root": self.versions.root,
            "base": base,
            "trained_on": _trained_on(written, self.options, self.skipped, self.seconds),
            "before": before.json() | {"by_label": by_label(place / "before")},
            "after": after.json() | {"by_label": by_label(place / "after")},
        }
        return self._decide(made, Path(name).name, before, after, told)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - began

    def _write(self, out: Path) -> Written:
        out.mkdir()
        lessons = list(self._lessons())
        self.task.note(f"{len(lessons)} reviewed cases")
        return write_lessons(
            lessons,
            self.service.card.labels,
            out,
            held_out=self.options.held_out,
            slices=self.options.slices,
            on_case=self._on_case,
        )

    def _on_case(self, done: int, total: int) -> None:
        self.task.check_stop()
        self.task.at("lessons", done, total)

    def _lessons(self) -> Iterator[Lesson]:
        """Cases with something settled, whose volumes are still there."""
        review = self.service.review
        volumes = ReviewedVolumes(self.service, review)
        for summary in review.store.summaries():
            if not summary.counts["accepted"] + summary.counts["edited"]:
                continue
            case = summary.case
            settled = truths(review.store.report(case.volume_digest, histories=False))
            read = partial(volumes.volume, case.volume_digest, case.name, summary.places)
            try:
                read()
            except LostVolumeError as error:
                self.skipped.append(str(error))
                self.task.note(f"skipped: {error}")
            else:
                yield Lesson(case.volume_digest, case.name, tuple(settled), read)

    def _train(self, runner: medgrit.Runner, weights: Path, place: Path) -> Path:
        lessons, small = place / "lessons" / "train", medgrit.is_small(weights)
        return runner.train(weights, lessons, place / "run", self.options.effort, small)

    def _judge(
        self, runner: medgrit.Runner, model: Path, place: Path, phase: str, written: Written
    ) -> Judgement:
        test, answers = place / "lessons" / "test", place / phase
        runner.predict(model, test, answers, written.questions["test"], phase)
        judged = judge(answers)
        self.task.note(f"{phase}: recall {judged.recall:.3f}, specificity {judged.specificity:.3f}")
        return judged

    def _decide(
        self, made: Path, name: str, before: Judgement, after: Judgement, told: dict[str, Any]
    ) -> dict[str, Any]:
        self.task.check_stop()
        better = not after.is_worse_than(before)
        act = self.versions.take if better else self.versions.kept.refuse
        record = act(made, name, told)
        verdict = "takes over" if better else "is worse and is refused"
        message = (
            f"{record.name} {verdict}: score {before.score:.3f} -> {after.score:.3f}, "
            f"recall {before.recall:.3f} -> {after.recall:.3f}"
        )
        self.task.note(message)
        return {"message": message, "swapped_in": better, **asdict(record)}


def _trained_on(
    written: Written, options: Options, skipped: list[str], seconds: dict[str, float]
) -> dict[str, Any]:
    return {
        "cases": list(written.cases["train"]),
        "judged_by": list(written.cases["test"]),
        "skipped": skipped,
        "labels": list(written.labels),
        "pictures": written.pictures,
        "questions": written.questions,
        "options": asdict(options),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def _stats(outcome: dict[str, Any]) -> dict[str, Any]:
    return {
        "epoch": 1,
        "total_epochs": 1,
        "best_metric": outcome["after"]["recall"],
        "total_time": str(outcome["seconds"]),
        "version": outcome["name"],
        "swapped_in": outcome["swapped_in"],
    }


def _number(name: str, value: Any) -> float | int:
    whole = isinstance(DEFAULTS[name], int)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BadRequestError(f"{name}: must be a number, got {value!r}") from error
    if isinstance(value, bool) or not math.isfinite(number) or (whole and number != int(number)):
        kind = "a whole number" if whole else "a finite number"
        raise BadRequestError(f"{name}: must be {kind}, got {value!r}")
    return int(number) if whole else number
