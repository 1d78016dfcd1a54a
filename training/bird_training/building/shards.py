"""What a worker does: read the pictures of one shard, and say what is known of them.

A shard's parts are files of JSON lines that are whole or absent, so that an interrupted build goes
on where it stopped: facts, a line per picture ({"skipped": [name, reason]} where it is left out);
words, a line per picture that has facts; and the difference hashes that tell near-duplicates. Knows
nothing about processes or splits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from bird_training.building.metadata import picture_facts
from bird_training.building.plan import Plan
from bird_training.building.stopping import check_stop
from bird_training.facts import PictureFacts, PlacedObject, Turn, WrittenPicture
from bird_training.records import PictureRecord
from bird_training.regions import Vocabulary
from bird_training.released import JsonListFile
from bird_training.sources.reading import Skipped
from bird_training.twins import signs_of
from bird_training.writers.offline import OfflineWriter
from bird_training.writers.plan import check_facts, picture_rng
from bird_vlm.errors import BirdError

PLAN_FILE = "plan.sqlite"
PARTS = "parts"
_SIGN_BYTES = 32  # of a difference hash


@dataclass(frozen=True)
class ShardTask:
    """Everything a worker must know; it can be sent to another process or machine."""

    out: Path  # the build's folder
    work: Path  # holds the plan and the parts
    pictures: Path  # where the source keeps its pictures
    seed: int = 0
    copy_images: bool = False
    offline_writer: OfflineWriter | None = None  # None: somebody else writes the words

    def __call__(self, number: int) -> None:
        """Writes the facts of shard `number`, and the words, unless they are there."""
        part = facts_file(self.work, number)
        if not part.exists():
            self._write_facts(part, number)
        if self.offline_writer:
            write_words_offline(self.work, number, self.offline_writer, self.seed)

    def _write_facts(self, part: Path, number: int) -> None:
        plan_file = self.work / PLAN_FILE
        plan, vocabulary = _opened(plan_file, plan_file.stat().st_mtime_ns)
        signs: list[np.ndarray] = []
        with JsonListFile(part, lines=True) as lines:
            for record, annotated in plan.shard(number):
                check_stop()
                try:
                    facts = self._facts(record, vocabulary, annotated)
                    sign = signs_of(record.image)
                except BirdError as error:
                    lines.add({"skipped": [record.image.name, " ".join(str(error).split())]})
                    continue
                lines.add(facts_to_json(facts) | {"image": self._image(facts.image)})
                signs.append(sign)
            rows = np.array(signs, np.uint8).reshape(-1, _SIGN_BYTES)
            np.save(_part(self.work, number, "signs"), rows)

    def _facts(
        self, record: PictureRecord, vocabulary: Vocabulary, annotated: tuple[str, ...] | None
    ) -> PictureFacts:
        if not record.image.is_relative_to(self.pictures):
            raise BirdError(f"{record.image}: lies outside {self.pictures}")
        facts = picture_facts(record, vocabulary, annotated)
        if record.objects and not facts.objects:
            raise BirdError(f"{record.image}: its objects are too small to point at")
        check_facts(facts)
        return facts

    def _image(self, image: Path) -> str:
        """The picture's path from the build's folder; a copy is put there if so wished."""
        path = PurePath("images") / image.relative_to(self.pictures)
        if self.copy_images:
            target = self.out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{target.name}.unfinished")
            shutil.copyfile(image, unfinished)
            unfinished.replace(target)
        return path.as_posix()


class WordsFile(JsonListFile):
    """The words of a shard's pictures, in the order of its facts."""

    def __init__(self, work: Path, number: int) -> None:
        super().__init__(words_file(work, number), lines=True)

    def add(self, written: WrittenPicture | None) -> None:
        """None: the picture is left out."""
        super().add(None if written is None else _words_to_json(written))


def write_words_offline(work: Path, number: int, writer: OfflineWriter, seed: int) -> None:
    """The words of shard `number`, unless they are there."""
    if words_file(work, number).exists():
        return
    with WordsFile(work, number) as words:
        for facts in read_facts(work, number):
            words.add(writer.write(facts, picture_rng(facts, seed)))


def facts_file(work: Path, number: int) -> Path:
    return _part(work, number, "facts")


def words_file(work: Path, number: int) -> Path:
    return _part(work, number, "words")


def read_facts(work: Path, number: int) -> Iterator[PictureFacts]:
    """Of the pictures that were not skipped; their images are relative to the build's folder."""
    for item in _read_facts_or_skipped(work, number):
        if isinstance(item, PictureFacts):
            yield item


def read_parts(work: Path, number: int) -> Iterator[tuple[PictureFacts, WrittenPicture] | Skipped]:
    """What is known of a shard's pictures, and the words for it."""
    with words_file(work, number).open(encoding="utf-8") as lines:
        for item in _read_facts_or_skipped(work, number):
            if isinstance(item, Skipped):
                yield item
                continue
            told = json.loads(next(lines))
            if told is None:
                yield Skipped(item.image.name, "the writer's words did not fit what is known")
            else:
                yield item, _words_from_json(told)


def read_signs(work: Path, number: int) -> np.ndarray:
    """Packed difference hashes, uint8 (pictures, 32), of those that were not skipped."""
    return np.load(_part(work, number, "signs"))


def facts_to_json(facts: PictureFacts) -> dict[str, Any]:
    """As facts.jsonl holds them; `box_norm` is 0..1000 of the picture's width and height."""
    return asdict(facts) | {"image": facts.image.as_posix()}


def facts_from_json(told: dict[str, Any]) -> PictureFacts:
    objects = tuple(PlacedObject(**o | {"box_norm": tuple(o["box_norm"])}) for o in told["objects"])
    changed = {"image": Path(told["image"]), "objects": objects, "absent": tuple(told["absent"])}
    return PictureFacts(**told | changed)


def _read_facts_or_skipped(work: Path, number: int) -> Iterator[PictureFacts | Skipped]:
    with facts_file(work, number).open(encoding="utf-8") as lines:
        for line in lines:
            told = json.loads(line)
            yield Skipped(*told["skipped"]) if "skipped" in told else facts_from_json(told)


def _words_to_json(written: WrittenPicture) -> dict[str, Any]:
    return {
        "caption": written.caption,
        "turns": [[t.task, t.question, t.answer] for t in written.turns],
        "dialogue": [[t.task, t.question, t.answer] for t in written.dialogue],
    }


def _words_from_json(told: dict[str, Any]) -> WrittenPicture:
    turns, dialogue = (tuple(Turn(*turn) for turn in told[key]) for key in ("turns", "dialogue"))
    return WrittenPicture(told["caption"], turns, dialogue)


def _part(work: Path, number: int, kind: str) -> Path:
    suffix = "npy" if kind == "signs" else "jsonl"
    return work / PARTS / f"{number:06d}.{kind}.{suffix}"


@lru_cache(maxsize=1)
def _opened(plan_file: Path, written_ns: int) -> tuple[Plan, Vocabulary]:
    """Once per process and plan."""
    plan = Plan(plan_file)
    return plan, plan.vocabulary()
