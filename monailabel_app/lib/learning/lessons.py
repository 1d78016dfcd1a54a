"""Reviewed cases as Med-GRIT questions on disk: a side to learn from and a side to be judged by.

    OUT/train/{VG,ROC}.json   OUT/test/VG.json   OUT/images/*.png

No case is on both sides. Slices are cut, questions worded and files written by the code that builds
Med-GRIT (`bird_training`). Knows nothing about models or databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bird_training.facts import PlacedObject, Turn
from bird_training.released import JsonListFile, entry
from bird_training.sources.slicing import ShownSlice, shown_slices
from bird_training.splits import CaseGroups
from bird_training.writers.dialogues import grounding_turn, naming_turn
from bird_vlm.boxes import pixel_to_norm
from bird_vlm.contract import Plane
from bird_vlm.errors import BadRequestError
from bird_vlm.volumes import Volume
from bird_vlm.windows import automatic_window, is_ct
from lib.learning.truths import Truth

_DATASET = "reviews"
_ABSENT_SHARE = 0.5  # absences asked for, per slice that shows the label


@dataclass(frozen=True)
class Lesson:
    """One reviewed case; `read` gives its volume when it is needed, one at a time."""

    case: str  # volume digest
    name: str
    truths: tuple[Truth, ...]
    read: Callable[[], Volume]


@dataclass(frozen=True)
class Written:
    """What became of the lessons."""

    cases: dict[str, tuple[str, ...]]  # names by side, "train" and "test"
    pictures: int
    questions: dict[str, int]  # by side
    labels: tuple[str, ...]


def write_lessons(
    lessons: Sequence[Lesson],
    known: dict[str, list[str]],
    out: Path,
    *,
    held_out: float,
    slices: int,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Writes every lesson to its side; of each case and plane at most `slices` pictures.

    `known` are the model's labels by modality. Raises BadRequestError where there are not enough
    cases to hold one out.
    """
    if len(lessons) < 2:
        raise BadRequestError(
            f"cases: training needs at least 2 cases with accepted or edited findings, one of them "
            f"to be judged by; there are {len(lessons)}. Review more"
        )
    test = {case for _, case in _groups(lessons).held_out(held_out)}
    (out / "images").mkdir(parents=True)
    done = {side: _Side(out, side) for side in ("train", "test")}
    for number, lesson in enumerate(lessons):
        on_case(number, len(lessons))
        done["test" if lesson.case in test else "train"].add(lesson, known, slices)
    for side in done.values():
        side.close()
    return Written(
        cases={name: tuple(side.cases) for name, side in done.items()},
        pictures=sum(side.pictures for side in done.values()),
        questions={name: side.questions for name, side in done.items()},
        labels=tuple(sorted({truth.label for lesson in lessons for truth in lesson.truths})),
    )


def _groups(lessons: Iterable[Lesson]) -> CaseGroups:
    return CaseGroups((_DATASET, lesson.case) for lesson in lessons)


class _Side:
    """The files of one side, which grow case by case."""

    def __init__(self, out: Path, name: str) -> None:
        (out / name).mkdir()
        self._images, self._is_test = out / "images", name == "test"
        tasks = ("VG",) if self._is_test else ("VG", "ROC")
        self._files = {task: JsonListFile(out / name / f"{task}.json") for task in tasks}
        for file in self._files.values():
            file.__enter__()
        self.cases: list[str] = []
        self.pictures = 0

    @property
    def questions(self) -> int:
        return sum(file.count for file in self._files.values())

    def add(self, lesson: Lesson, known: dict[str, list[str]], slices: int) -> None:
        volume = lesson.read()
        modality = modality_of(volume, [truth.label for truth in lesson.truths], known)
        for shown, turns in pictures(lesson.truths, volume, slices):
            stem = f"{modality}_{lesson.case}_{shown.plane}_{shown.index:04d}"
            Image.fromarray(shown.picture).save(self._images / f"{stem}.png")
            self.pictures += 1
            for turn in turns:
                if turn.task in self._files:
                    self._files[turn.task].add(entry(stem, f"images/{stem}.png", [turn]))
        self.cases.append(lesson.name)

    def close(self) -> None:
        for file in self._files.values():
            file.__exit__(None)


def pictures(
    truths: Sequence[Truth], volume: Volume, slices: int
) -> Iterator[tuple[ShownSlice, list[Turn]]]:
    """The slices worth asking about, evenly spread, with their questions.

    At most `slices` of each plane that show something, and as many again that do not.
    """
    planes: dict[Plane, list[Truth]] = {}
    for truth in truths:
        planes.setdefault(truth.plane, []).append(truth)
    for plane, settled in planes.items():
        window = next((t.window for t in settled if t.window), None) or automatic_window(volume)
        chosen = _chosen(settled, slices, volume, plane)
        for shown in shown_slices(volume, window, (plane,), step=1):
            if shown.index in chosen and (turns := list(_turns(settled, shown))):
                yield shown, turns


def _chosen(truths: Sequence[Truth], slices: int, volume: Volume, plane: Plane) -> set[int]:
    """Slices with boxes, and slices that certainly lack a label, evenly spread."""
    from bird_vlm.slices import slice_stack

    showing = sorted({index for truth in truths for index in truth.boxes})
    every = range(slice_stack(volume.geometry(), plane).count)
    lacking = [
        index
        for index in every
        if index not in showing and any(truth.tells_absence for truth in truths)
    ]
    kept = _spread(showing, slices)
    return {*kept, *_spread(lacking, round(_ABSENT_SHARE * len(kept)))}


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of them, evenly spread.

    >>> _spread(range(10), 3)
    [1, 5, 8]
    """
    if len(indices) <= count:
        return list(indices)
    step = len(indices) / count
    return [indices[int(step * (number + 0.5))] for number in range(count)]


def _turns(truths: Iterable[Truth], shown: ShownSlice) -> Iterator[Turn]:
    """Where each label is, or that it is absent; and what is in each box."""
    for truth in truths:
        boxes = truth.boxes.get(shown.index, ())
        if not boxes and not truth.tells_absence:
            continue
        placed = [
            PlacedObject(truth.label, pixel_to_norm(box, shown.stack.width, shown.stack.height))
            for box in boxes
        ]
        yield grounding_turn(truth.label, placed)
        yield from map(naming_turn, placed)


def modality_of(volume: Volume, labels: Sequence[str], known: dict[str, list[str]]) -> str:
    """The modality whose labels fit best; where none does, CT by its grey values, else MR."""
    fits = {name: len(set(labels) & set(of)) for name, of in known.items()}
    best = max(fits.values(), default=0)
    fitting = [name for name, count in fits.items() if count == best and count > 0]
    by_values = "ct" if is_ct(volume.array) else "mr"
    if not fitting or by_values in fitting:
        return by_values
    return fitting[0]
