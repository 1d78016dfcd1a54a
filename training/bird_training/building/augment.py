"""The step of a build that adds augmented copies of the train side's pictures, as more shards.

From facts alone, so that no mask is read twice: boxes and sides of names follow the picture, and
the words are written afresh, since places change. Knows nothing about how pictures are augmented.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath

from bird_training.building.sampling import draw
from bird_training.building.settings import AUGMENTED
from bird_training.building.shards import (
    facts_file,
    facts_to_json,
    read_facts,
    write_words_offline,
)
from bird_training.building.stopping import check_stop
from bird_training.facts import PictureFacts
from bird_training.released import JsonListFile
from bird_training.splits import Case
from bird_training.writers.offline import OfflineWriter
from bird_vlm.outputs import write_json

_HELD_OUT_FILE = "held_out.json"


@dataclass(frozen=True)
class AugmentTask:
    """Everything a worker must know; it can be sent to another process or machine."""

    out: Path  # the build's folder
    work: Path  # holds the parts, and which cases are held out
    shards: int  # before the copies
    copies: int
    seed: int = 0
    offline_writer: OfflineWriter | None = None  # None: somebody else writes the words

    def __call__(self, number: int) -> None:
        """Writes copies of shard `number` as shard `shards + number`, unless they are there."""
        copied = self.shards + number
        part = facts_file(self.work, copied)
        if not part.exists():
            with JsonListFile(part, lines=True) as lines:
                for facts in self._copies(number):
                    image = facts.image.relative_to(self.out)
                    lines.add(facts_to_json(replace(facts, image=image)))
        if self.offline_writer:
            write_words_offline(self.work, copied, self.offline_writer, self.seed)

    def _copies(self, number: int) -> Iterator[PictureFacts]:
        from bird_training.transforms.boxes import augmented_copy

        file = self.work / _HELD_OUT_FILE
        held_out = _held_out(file, file.stat().st_mtime_ns)
        for facts in read_facts(self.work, number):
            if (facts.dataset, facts.case) in held_out:
                continue
            shown = replace(facts, image=self.out / facts.image)
            for copy in range(1, self.copies + 1):
                check_stop()
                name = f"{facts.id}--augmented_{copy:02d}"
                place = PurePath(AUGMENTED) / f"{name}.png"
                yield augmented_copy(
                    shown, name, self.out / place, draw(f"{name}/{self.seed}") % 2**32
                )


def begin_copies(out: Path, work: Path, held_out: Collection[Case]) -> None:
    """The folder of the copies, and for the workers which cases are to have none."""
    (out / AUGMENTED).mkdir(exist_ok=True)
    write_json(work / _HELD_OUT_FILE, {"cases": sorted(held_out)})


@lru_cache(maxsize=1)
def _held_out(file: Path, written_ns: int) -> frozenset[Case]:
    """Once per process and build."""
    told = json.loads(file.read_text(encoding="utf-8"))
    return frozenset((dataset, case) for dataset, case in told["cases"])
