"""The steps of a build, each of which finds what the one before left on disk.

Knows what every step needs, not in which order they are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bird_training.building.augment import AugmentTask, begin_copies
from bird_training.building.cases import group_cases
from bird_training.building.cut import CutTask, cut_records, write_entries
from bird_training.building.engines import Engine, Show, run
from bird_training.building.merge import Merged, merge_parts
from bird_training.building.plan import Found, Plan, write_plan
from bird_training.building.sampling import spread
from bird_training.building.settings import IMAGES, REFUSED_FILE, WORK, BuildSettings
from bird_training.building.shards import PARTS, PLAN_FILE, ShardTask
from bird_training.building.words import write_words
from bird_training.sources.detect import Source
from bird_training.sources.reading import Skipped
from bird_training.splits import Case
from bird_training.writers.offline import OfflineWriter
from bird_vlm.errors import BirdError

_SOME = 3  # volumes
Progress = Callable[[str], AbstractContextManager[Show]]


@dataclass(frozen=True)
class BuildSteps:
    """One run of a build."""

    settings: BuildSettings
    source: Source
    out: Path
    progress: Progress
    engine: Engine
    workers: int

    @property
    def work(self) -> Path:
        return self.out / WORK

    @property
    def images(self) -> Path:
        return self.out / IMAGES

    def run(self, title: str, task: Callable[[int], None], count: int) -> None:
        with self.progress(title) as show:
            run(task, range(count), engine=self.engine, workers=self.workers, show=show)

    def prepare_images(self) -> None:
        """`images`: a folder of our own, or a link to the source's."""
        images = self.images
        if images.exists():
            return
        if self.source.volumes or self.settings.copy_images:
            images.mkdir()
            return
        try:
            images.symlink_to(self.source.folder / IMAGES, target_is_directory=True)
        except OSError as error:
            raise BirdError(f"{images}: cannot be a link ({error}); use --copy-images") from error

    def plan(self) -> None:
        """What to take; volumes are cut first."""
        if (self.work / PLAN_FILE).exists():
            return
        found = self._pictures() if self.source.pictures else self._slices()
        step = self.settings.slice_step if self.source.pictures else None
        with self.progress("plan") as show:
            show(0, 1)
            write_plan(self.work / PLAN_FILE, found, limit=self.settings.limit, step=step or 1)

    def _pictures(self) -> Iterator[Found]:
        for item in self.source.pictures():
            yield item if isinstance(item, Skipped) else (item, None)

    def _slices(self) -> Iterator[Found]:
        count = write_entries(self.work, self.source.volumes())
        self.run("volumes", self.cutting(), count)
        return cut_records(self.work, range(count))

    def plan_some(self) -> float:
        """Plans the slices of a few volumes far apart; how many times as many all will have."""
        count, cut = write_entries(self.work, self.source.volumes()), self.cutting()
        found: list[Found] = []
        seen = usable = 0
        with self.progress("some volumes") as show:
            for number in sorted(range(count), key=spread(count).__getitem__):
                cut(number)
                slices = list(cut_records(self.work, [number]))
                found += slices
                seen, usable = seen + 1, usable + any(not isinstance(s, Skipped) for s in slices)
                show(usable, _SOME)
                if usable == _SOME:
                    break
        write_plan(self.work / PLAN_FILE, found, limit=None, step=1)
        return count / max(1, seen)

    def cutting(self) -> CutTask:
        told = self.settings
        return CutTask(self.work, self.images, told.planes, told.slice_step, told.window)

    @property
    def offline_writer(self) -> OfflineWriter | None:
        options = self.settings.writer
        return OfflineWriter(options.absent_questions) if options.kind == "offline" else None

    def read(self, plan: Plan) -> None:
        own = self.source.pictures is not None
        task = ShardTask(
            self.out,
            self.work,
            self.source.folder / IMAGES if own else self.images,
            self.settings.seed,
            self.settings.copy_images and own,
            self.offline_writer,
        )
        (self.work / PARTS).mkdir(exist_ok=True)
        self.run("pictures", task, plan.shards)

    def split(self, plan: Plan) -> set[Case]:
        """The cases of the test side."""
        with self.progress("near-duplicates") as show:
            groups = group_cases(self.out, self.work, plan.shards, show)
        return groups.held_out(self.settings.test_fraction)

    def augment(self, plan: Plan, held_out: set[Case]) -> int:
        """How many shards there are with those of the copies."""
        copies = self.settings.augment
        if not copies:
            return plan.shards
        begin_copies(self.out, self.work, held_out)
        task = AugmentTask(
            self.out, self.work, plan.shards, copies, self.settings.seed, self.offline_writer
        )
        self.run("augmented pictures", task, plan.shards)
        return 2 * plan.shards

    def write(self, plan: Plan, shards: int) -> dict[str, Any]:
        """By the language model, if one is to write; its totals."""
        told = self.settings
        if told.writer.kind == "offline":
            return {}
        pictures = plan.pictures + copies_of(plan.pictures, told)
        report = self.out / REFUSED_FILE
        with self.progress("language model") as show:
            return write_words(self.work, shards, pictures, told.writer, told.seed, report, show)

    def merge(self, plan: Plan, shards: int, held_out: set[Case]) -> Merged:
        with self.progress("files") as show:
            return merge_parts(self.out, self.work, plan, shards, held_out, show)


def copies_of(pictures: int, settings: BuildSettings) -> int:
    """About how many augmented copies so many pictures get."""
    return round(pictures * settings.augment * (1 - settings.test_fraction))
