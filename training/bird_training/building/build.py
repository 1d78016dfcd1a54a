"""`medgrit build`: a source -> Med-GRIT, in steps that an interruption does not undo.

1. cut:     volumes -> slices (labelled volumes only), a part per volume
2. plan:    all pictures of the source, thinned and balanced, in a file on disk
3. read:    masks -> facts, parts per shard, in parallel; the offline writer writes here, too
4. split:   by case and near-duplicate
5. augment: copies of the train side's pictures, as further shards, if there are to be any
6. write:   facts -> words by a language model, in this process
7. merge:   parts -> the released files

Knows the order of the steps and what is left on disk between them.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

from bird_training.building.cut import CUTS
from bird_training.building.engines import Engine
from bird_training.building.merge import SIDES, SKIPPED_FILE, Merged
from bird_training.building.plan import NothingUsableError, Plan
from bird_training.building.settings import (
    IMAGES,
    REPORT_FILE,
    WORK,
    BuildSettings,
    begin,
    clear,
    describe,
    finished,
)
from bird_training.building.shards import PARTS, PLAN_FILE
from bird_training.building.steps import BuildSteps, Progress
from bird_training.sources.detect import detect
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json


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
    step = BuildSteps(settings, source, out, progress, engine, workers)
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


def _run(step: BuildSteps, told: dict[str, Any]) -> dict[str, Any]:
    """All steps; returns the report."""
    out, source = step.out, step.source
    step.prepare_images()
    step.plan()
    with closing(Plan(step.work / PLAN_FILE)) as plan:
        step.read(plan)
        held_out = step.split(plan)
        shards = step.augment(plan, held_out)
        told_by_model = step.write(plan, shards)
        merged = step.merge(plan, shards, held_out)
        if not merged.pictures:
            raise NothingUsableError(
                f"{source.folder}: all {merged.skipped} pictures had to be skipped; the reasons "
                f"are in {out / SKIPPED_FILE}"
            )
        if source.volumes:
            _drop_images(out, plan)
        return _report(told, plan, merged) | {"language_model": told_by_model}


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
        "augmented": merged.augmented,
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
