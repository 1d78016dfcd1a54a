"""The last step of a build: parts -> the split, and the released files of both sides.

Reads one picture at a time. Knows nothing about how parts came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bird_training.building.plan import Plan
from bird_training.building.shards import facts_to_json, read_parts
from bird_training.facts import TASKS, PictureFacts, Turn, WrittenPicture
from bird_training.released import CAPTION_QUESTION, JsonListFile, entry
from bird_training.sources.reading import Skipped
from bird_training.splits import Case

SIDES = ("train", "test")
FILES = (*TASKS, "dialogues", "captions")
FACTS_FILE = "facts.jsonl"
SKIPPED_FILE = "skipped.jsonl"


@dataclass
class Merged:
    """What was written."""

    pictures: Counter = field(default_factory=Counter)  # by (side, modality)
    entries: Counter = field(default_factory=Counter)  # by (side, file)
    absent: Counter = field(default_factory=Counter)  # grounding questions without a box, by side
    augmented: int = 0  # of the pictures
    skipped: int = 0
    cases: Counter = field(default_factory=Counter)  # by side


def merge_parts(
    out: Path,
    work: Path,
    plan: Plan,
    shards: int,
    held_out: Collection[Case],
    show: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Writes all files of both sides and skipped.jsonl, in the order of the pictures' names.

    Those from the plan's shards come first, then the augmented ones, up to `shards`.
    """
    merged = Merged()
    cases: set[Case] = set()
    with ExitStack() as files:
        sides = {side: files.enter_context(_Side(out / side)) for side in SIDES}
        skipped = files.enter_context(JsonListFile(out / SKIPPED_FILE, lines=True))

        def skip(item: Skipped) -> None:
            skipped.add({"name": item.name, "reason": item.reason})
            merged.skipped += 1

        for item in plan.skipped():
            skip(item)
        for shard in range(shards):
            show(shard, shards)
            for item in read_parts(work, shard):
                if isinstance(item, Skipped):
                    skip(item)
                    continue
                facts, written = item
                case = (facts.dataset, facts.case)
                side = SIDES[case in held_out]
                sides[side].add(facts, written)
                merged.pictures[side, facts.modality] += 1
                merged.augmented += shard >= plan.shards
                merged.absent[side] += sum(_is_absence(turn) for turn in written.turns)
                if case not in cases:
                    cases.add(case)
                    merged.cases[side] += 1
        for side, files_of in sides.items():
            merged.entries.update({(side, name): f.count for name, f in files_of.lists.items()})
    return merged


class _Side:
    """The files of one side of the split; they appear together when all went well."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lists = {name: JsonListFile(folder / f"{name}.json") for name in FILES}
        self.facts = JsonListFile(folder / FACTS_FILE, lines=True)

    def __enter__(self) -> _Side:
        self.stack = ExitStack()
        for file in (*self.lists.values(), self.facts):
            self.stack.enter_context(file)
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)

    def add(self, facts: PictureFacts, written: WrittenPicture) -> None:
        image = facts.image.as_posix()
        for turn in written.turns:
            self.lists[turn.task].add(entry(facts.id, image, [turn]))
        if written.dialogue:
            self.lists["dialogues"].add(entry(facts.id, image, written.dialogue))
        caption = Turn("MIA", CAPTION_QUESTION, written.caption)
        self.lists["captions"].add(entry(facts.id, image, [caption]))
        self.facts.add(facts_to_json(facts))


def _is_absence(turn: Turn) -> bool:
    return turn.task == "VG" and "<box>" not in turn.answer
