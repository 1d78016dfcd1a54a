"""`medgrit build`: a source -> Med-GRIT, in steps that an interruption does not undo.

1. cut:   volumes -> slices (labelled volumes only), a part per volume
2. plan:  all pictures of the source, thinned and balanced, in a file on disk
3. read:  masks -> facts, parts per shard, in parallel; the offline writer writes here, too
4. write: facts -> words by a language model, in this process
5. split: by case and near-duplicate
6. merge: parts -> the released files

Knows the order of the steps and what is left on disk between them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bird_training.building.cases import group_cases
from bird_training.building.cut import CUTS, CutTask, cut_records, write_entries
from bird_training.building.engines import Engine, Show, run
from bird_training.building.merge import SIDES, SKIPPED_FILE, Merged, held_out_cases, merge_parts
from bird_training.building.metadata import picture_facts
from bird_training.building.plan import Found, NothingUsableError, Plan, write_plan
from bird_training.building.settings import (
    IMAGES,
    REFUSED_FILE,
    REPORT_FILE,
    WORK,
    BuildSettings,
    begin,
    clear,
    describe,
    finished,
)
from bird_training.building.shards import PARTS, PLAN_FILE, ShardTask
from bird_training.building.words import write_words
from bird_training.facts import PictureFacts
from bird_training.sources.detect import Source, detect
from bird_training.sources.reading import Skipped
from bird_training.writers.offline import OfflineWriter
from bird_training.writers.options import preview
from bird_training.writers.plan import picture_rng
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json

_PREVIEWED = 3  # pictures
Progress = Callable[[str], AbstractContextManager[Show]]


@dataclass(frozen=True)
class _Build:
    """One run of `build`."""

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
        cut = CutTask(self.work, self.images, self.settings.planes, self.settings.slice_step)
        self.run("volumes", cut, count)
        return cut_records(self.work, count)

    def read(self, plan: Plan) -> None:
        own, options = self.source.pictures is not None, self.settings.writer
        offline = options.kind == "offline"
        task = ShardTask(
            self.out,
            self.work,
            self.source.folder / IMAGES if own else self.images,
            self.settings.seed,
            self.settings.copy_images and own,
            OfflineWriter(options.absent_questions) if offline else None,
        )
        (self.work / PARTS).mkdir(exist_ok=True)
        self.run("pictures", task, plan.shards)

    def write(self, plan: Plan) -> dict[str, Any]:
        """By the language model, if one is to write; its totals."""
        if self.settings.writer.kind == "offline":
            return {}
        report = self.out / REFUSED_FILE
        with self.progress("language model") as show:
            return write_words(
                self.work, plan, self.settings.writer, self.settings.seed, report, show
            )

    def merge(self, plan: Plan) -> Merged:
        with self.progress("near-duplicates") as show:
            groups = group_cases(self.out, self.work, plan.shards, show)
        held_out = held_out_cases(groups, self.settings.test_fraction)
        with self.progress("files") as show:
            return merge_parts(self.out, self.work, plan, held_out, show)


def build(
    settings: BuildSettings,
    out: Path,
    progress: Progress,
    *,
    engine: Engine = "local",
    workers: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Builds Med-GRIT in `out`, or goes on with a build that was interrupted; returns the report.

    The files are the same to the byte for any engine, number of workers and interruption. Raises
    BirdError where the source or `out` cannot be used, or every picture had to be skipped.
    """
    source = detect(settings.source.resolve(), settings.modality)
    out = out.resolve()
    told = describe(settings, source)
    if overwrite:
        clear(out)
    if report := finished(out, told):
        return report
    begin(out, told)
    step = _Build(settings, source, out, progress, engine, workers)
    try:
        report = _run(step, told)
    except NothingUsableError:
        for name in (PARTS, CUTS):  # so that mended files are read again
            shutil.rmtree(out / WORK / name, ignore_errors=True)
        raise
    except OSError as error:
        raise BirdError(
            f"{out}: stopped ({error}); with that mended, the same command goes on"
        ) from error
    write_json(out / REPORT_FILE, report)
    shutil.rmtree(out / WORK)
    return report


def _run(step: _Build, told: dict[str, Any]) -> dict[str, Any]:
    """All steps; returns the report."""
    out, source = step.out, step.source
    _prepare_images(source, step.settings, out)
    step.plan()
    with closing(Plan(step.work / PLAN_FILE)) as plan:
        step.read(plan)
        told_by_model = step.write(plan)
        merged = step.merge(plan)
        if not merged.pictures:
            raise NothingUsableError(
                f"{source.folder}: all {merged.skipped} pictures had to be skipped; the reasons "
                f"are in {out / SKIPPED_FILE}"
            )
        if source.volumes:
            _drop_images(out, plan)
        return _report(told, plan, merged) | {"language_model": told_by_model}


def preview_build(settings: BuildSettings, progress: Progress, *, workers: int = 1) -> str:
    """What would be written about some pictures, and what all would cost; leaves nothing behind."""
    with TemporaryDirectory() as folder:
        out = Path(folder).resolve()
        source = detect(settings.source.resolve(), settings.modality)
        begin(out, describe(settings, source))
        _prepare_images(source, settings, out)
        step = _Build(settings, source, out, progress, "local", workers)
        step.plan()
        with closing(Plan(step.work / PLAN_FILE)) as plan:
            sample = list(_sample(plan))
            if settings.writer.kind == "llm":
                return str(preview(settings.writer, sample, plan.pictures))
            written = OfflineWriter(settings.writer.absent_questions)
            words = [written.write(f, picture_rng(f, settings.seed)) for f in sample]
            shown = [f"{t.task}  {t.question}  ->  {t.answer}" for w in words for t in w.turns]
            return "\n".join([*shown, f"{plan.pictures:,} of {plan.found:,} pictures to write"])


def _sample(plan: Plan) -> Iterator[PictureFacts]:
    """The first usable picture of some shards, far apart."""
    vocabulary = plan.vocabulary()
    for number in range(0, plan.shards, -(-plan.shards // _PREVIEWED)):
        for record, annotated in plan.shard(number):
            with suppress(BirdError):
                yield picture_facts(record, vocabulary, annotated)
                break


def _prepare_images(source: Source, settings: BuildSettings, out: Path) -> None:
    """`images`: a folder of our own, or a link to the source's."""
    images = out / IMAGES
    if images.exists():
        return
    if source.volumes or settings.copy_images:
        images.mkdir()
        return
    try:
        images.symlink_to(source.folder / IMAGES, target_is_directory=True)
    except OSError as error:
        raise BirdError(f"{images}: cannot be a link ({error}); use --copy-images") from error


def _drop_images(out: Path, plan: Plan) -> None:
    """Slices that were cut and not taken."""
    for image in (out / IMAGES).iterdir():
        if not plan.takes(image.stem):
            image.unlink()


def _report(told: dict[str, Any], plan: Plan, merged: Merged) -> dict[str, Any]:
    return {
        "settings": told,
        "found": plan.found,
        "taken": plan.pictures,
        "skipped": merged.skipped,
        "sides": {
            side: {
                "cases": merged.cases[side],
                "pictures": {m: n for (s, m), n in sorted(merged.pictures.items()) if s == side},
                "entries": {f: n for (s, f), n in sorted(merged.entries.items()) if s == side},
                "absent_questions": merged.absent[side],
            }
            for side in SIDES
        },
    }
