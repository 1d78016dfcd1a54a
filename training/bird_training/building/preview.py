"""What a build would write, and what it would cost, from a few pictures.

Leaves nothing behind. Knows nothing about how words are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bird_training.building.metadata import picture_facts
from bird_training.building.plan import Plan
from bird_training.building.settings import BuildSettings, begin, describe
from bird_training.building.shards import PLAN_FILE
from bird_training.building.steps import BuildSteps, Progress, copies_of
from bird_training.facts import PictureFacts
from bird_training.sources.detect import detect
from bird_training.writers.estimate import DryRun, dry_run
from bird_training.writers.plan import picture_rng
from bird_vlm.errors import BirdError

_PREVIEWED = 3  # pictures


def preview_build(settings: BuildSettings, progress: Progress) -> str:
    """What would be written about some pictures, and what all would cost; leaves nothing behind.

    Of volumes a few are cut, and the others taken to have as many slices.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder).resolve()
        source = detect(settings.source.resolve(), settings.modality)
        begin(out, describe(settings, source))
        step = BuildSteps(settings, source, out, progress, "local", workers=1)
        step.prepare_images()
        times = step.plan_some() if source.volumes else 1.0
        step.plan()
        with closing(Plan(step.work / PLAN_FILE)) as plan:
            sample = list(_sample(plan))
            found = round(times * plan.found)
            taken = min(found, settings.limit or found) if source.volumes else plan.pictures
        copies = copies_of(taken, settings)
        if settings.writer.kind == "llm":
            return str(_cost(settings, sample, taken + copies))
        told = [_preview(step, facts) for facts in sample]
        about = "about " if source.volumes else ""
        told.append(f"{about}{taken:,} of {found:,} pictures to write")
        told += [f"and about {copies:,} augmented copies"] if copies else []
        return "\n".join(told)


def _preview(step: BuildSteps, facts: PictureFacts) -> str:
    """What the offline writer says of a picture, a line per question."""
    written = step.offline_writer.write(facts, picture_rng(facts, step.settings.seed))
    return "\n".join(f"{t.task}  {t.question}  ->  {t.answer}" for t in written.turns)


def _cost(settings: BuildSettings, sample: Sequence[PictureFacts], pictures: int) -> DryRun:
    """The prompts for `sample`, and what a language model takes for so many pictures."""
    options = settings.writer
    return dry_run(
        sample,
        pictures,
        options.manner(),
        seed=settings.seed,
        price_in=options.price_in,
        price_out=options.price_out,
    )


def _sample(plan: Plan) -> Iterator[PictureFacts]:
    """Usable pictures from the middle of equal parts of the plan."""
    vocabulary = plan.vocabulary()
    shards = range(0, plan.shards, -(-plan.shards // _PREVIEWED))
    each = -(-_PREVIEWED // len(shards))
    for number in shards:
        records = list(plan.shard(number))
        for part in range(each):
            middle = (2 * part + 1) * len(records) // (2 * each)
            for record, annotated in records[middle:]:
                with suppress(BirdError):
                    yield picture_facts(record, vocabulary, annotated)
                    break
