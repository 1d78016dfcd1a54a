"""The step of a build in which a language model writes: facts in parts -> words in parts.

In one process, since an endpoint's limits hold for all its questions together. Knows nothing about
prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bird_training.building.plan import SHARD
from bird_training.building.shards import WordsFile, read_facts, words_file
from bird_training.writers.options import WriterOptions, open_writer, totals, write_all


def write_words(
    work: Path,
    shards: int,
    pictures: int,
    options: WriterOptions,
    seed: int,
    report: Path,
    show: Callable[[int, int], None],
) -> dict[str, Any]:
    """Words for all shards that have none; returns the writer's totals.

    `pictures` is how many there are about, for `show`.
    Raises BirdError where the endpoint cannot be used; finished shards and answers stay.
    """
    missing = [n for n in range(shards) if not words_file(work, n).exists()]
    done = SHARD * (shards - len(missing))
    with open_writer(options, report) as writer:
        all_facts = (facts for number in missing for facts in read_facts(work, number))
        written = write_all(writer, all_facts, seed, options.threads)
        for number in missing:
            with WordsFile(work, number) as words:
                for _ in read_facts(work, number):
                    _, said = next(written)
                    words.add(said)
                    done += 1
                    show(min(done, pictures), pictures)
        return totals(writer)
