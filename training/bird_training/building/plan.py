"""The plan of a build: every picture of the source in a file on disk, and which of them are taken.

A SQLite file, so that memory does not grow with the source and any process can read its share.
Knows nothing about pixels or questions.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from bird_training.building.metadata import med_grit_id
from bird_training.building.sampling import draw, rarest, share_out, spread, stack_of, thin
from bird_training.records import ObjectRecord, PictureRecord
from bird_training.regions import Vocabulary
from bird_training.sources.modalities import check_modality
from bird_training.sources.reading import Skipped
from bird_vlm.errors import BirdError

SHARD = 64  # pictures that one worker takes at a time, and that an interruption may cost
_SCHEMA = """
CREATE TABLE pictures (
    id TEXT PRIMARY KEY, modality TEXT, stack TEXT, position INTEGER, labels TEXT, record TEXT,
    annotated TEXT
);
CREATE TABLE ranks (id TEXT, modality TEXT, object TEXT, rank INTEGER, lot INTEGER);
CREATE TABLE shards (id TEXT PRIMARY KEY, shard INTEGER);
CREATE TABLE skipped (name TEXT, reason TEXT);
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT);
"""
Found = tuple[PictureRecord, tuple[str, ...] | None] | Skipped  # with the objects looked for


class NothingUsableError(BirdError):
    """A source without one picture to build from."""


class Plan:
    """What `write_plan` left, read by the main process and all workers."""

    def __init__(self, path: Path) -> None:
        # As a URI, with nothing ever written: safe on network file systems, for many readers.
        self.rows = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)

    def close(self) -> None:
        self.rows.close()

    @property
    def pictures(self) -> int:
        """How many are taken."""
        return self._count("SELECT count(*) FROM shards")

    @property
    def found(self) -> int:
        """How many the source has."""
        return self._count("SELECT count(*) FROM pictures")

    @property
    def shards(self) -> int:
        return -(-self.pictures // SHARD)

    def shard(self, number: int) -> Iterator[tuple[PictureRecord, tuple[str, ...] | None]]:
        """Its pictures, and the objects that were looked for on each (None: the data set's)."""
        query = (
            "SELECT record, annotated FROM shards JOIN pictures USING (id) "
            "WHERE shard = ? ORDER BY id"
        )
        for record, annotated in self.rows.execute(query, (number,)):
            yield (
                record_from_json(record),
                None if annotated is None else tuple(json.loads(annotated)),
            )

    def takes(self, picture_id: str) -> bool:
        """Whether a picture of this name is taken."""
        query = "SELECT 1 FROM shards WHERE id = ?"
        return self.rows.execute(query, (picture_id,)).fetchone() is not None

    def skipped(self) -> Iterator[Skipped]:
        """What the source could not tell, in the order of names."""
        for row in self.rows.execute("SELECT name, reason FROM skipped ORDER BY name, reason"):
            yield Skipped(*row)

    def vocabulary(self) -> Vocabulary:
        """Of all pictures of the source, taken or not."""
        [(told,)] = self.rows.execute("SELECT value FROM notes WHERE key = 'labels'")
        return Vocabulary(
            PictureRecord(
                id="",
                image=Path(),
                modality=modality,
                dataset=dataset,
                case="",
                objects=tuple(ObjectRecord(label, Path()) for label in labels),
            )
            for dataset, modality, labels in json.loads(told)
        )

    def _count(self, query: str) -> int:
        return self.rows.execute(query).fetchone()[0]


def write_plan(path: Path, found: Iterable[Found], *, limit: int | None, step: int) -> None:
    """Plans a build of at most `limit` pictures, one of every `step` neighbouring slices.

    The file is whole or absent. Raises NothingUsableError where the source has no usable picture.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as rows, rows:
        rows.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
        counts = _fill(rows, found)
        _rank(rows, counts, step)
        _choose(rows, limit)
        rows.execute("CREATE INDEX by_shard ON shards (shard, id)")
    unfinished.replace(path)


def _fill(rows: sqlite3.Connection, found: Iterable[Found]) -> dict[str, Counter]:
    """All that was found, on disk; returns on how many pictures of a modality each object is."""
    counts: dict[str, Counter] = {}
    known: dict[tuple[str, str], set[str]] = {}
    for item in found:
        if isinstance(item, Skipped):
            _skip(rows, item)
            continue
        record, annotated = item
        try:
            check_modality(record.modality)
        except BirdError as error:
            _skip(rows, Skipped(record.image.name, str(error)))
            continue
        labels = sorted({o.label for o in record.objects})
        insert = "INSERT OR IGNORE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)"
        if not rows.execute(insert, _row(record, annotated, labels)).rowcount:
            _skip(rows, Skipped(record.image.name, f"another picture is called {record.id}, too"))
            continue
        counts.setdefault(record.modality, Counter()).update(labels)
        # what was looked for may be absent, too
        known.setdefault((record.dataset, record.modality), set()).update(labels, annotated or ())
    if not counts:
        raise NothingUsableError(_nothing(rows))
    told = [(*key, sorted(labels)) for key, labels in sorted(known.items())]
    rows.execute("INSERT INTO notes VALUES ('labels', ?)", (json.dumps(told),))
    return counts


def _nothing(rows: sqlite3.Connection) -> str:
    first = rows.execute("SELECT name, reason FROM skipped").fetchone()
    return (
        f"the source has no usable picture; {first[0]}: {first[1]}"
        if first
        else ("the source has no pictures; check that its index is not empty")
    )


def _skip(rows: sqlite3.Connection, item: Skipped) -> None:
    rows.execute("INSERT INTO skipped VALUES (?, ?)", (item.name, item.reason))


def record_to_json(record: PictureRecord) -> str:
    """One line; the id gets the form of Med-GRIT."""
    return json.dumps(
        {
            **{key: getattr(record, key) for key in ("modality", "dataset", "case", "plane")},
            "id": med_grit_id(record),
            "image": str(record.image),
            "objects": [(o.label, str(o.mask), o.value) for o in record.objects],
        }
    )


def record_from_json(written: str) -> PictureRecord:
    """The reverse of `record_to_json`."""
    told = json.loads(written)
    objects = tuple(ObjectRecord(label, Path(mask), v) for label, mask, v in told.pop("objects"))
    return PictureRecord(**told | {"image": Path(told["image"]), "objects": objects})


def _row(record: PictureRecord, annotated: tuple[str, ...] | None, labels: list[str]) -> tuple:
    stack, position = stack_of(record.id)
    written = record_to_json(record)
    scope = None if annotated is None else json.dumps(annotated)
    names = json.dumps(labels)
    return (med_grit_id(record), record.modality, stack, position, names, written, scope)


def _rank(rows: sqlite3.Connection, counts: dict[str, Counter], step: int) -> None:
    """Each slice's rank in its stack; none where a neighbour stands in for it."""
    query = (
        "SELECT stack, id, position, labels, modality FROM pictures ORDER BY stack, position, id"
    )
    for _, found in groupby(rows.execute(query), key=itemgetter(0)):
        slices = [(name, place, json.loads(told), kind) for _, name, place, told, kind in found]
        kept = thin([place for _, place, _, _ in slices], [len(t) for _, _, t, _ in slices], step)
        slices = [item for item, keep in zip(slices, kept, strict=True) if keep]
        rows.executemany(
            "INSERT INTO ranks VALUES (?, ?, ?, ?, ?)",
            (
                (name, modality, rarest(labels, counts[modality]), rank, draw(name))
                for (name, _, labels, modality), rank in zip(
                    slices, spread(len(slices)), strict=True
                )
            ),
        )


def _choose(rows: sqlite3.Connection, limit: int | None) -> None:
    """Which pictures are taken, and into which shard each goes, in the order of their names."""
    group = "SELECT modality, object, count(*) FROM ranks GROUP BY modality, object"
    available = {(modality, name): count for modality, name, count in rows.execute(group)}
    places = available if limit is None else share_out(available, limit)
    rows.execute("CREATE TEMP TABLE taken (id TEXT PRIMARY KEY)")
    for (modality, name), count in places.items():
        rows.execute(
            "INSERT INTO taken SELECT id FROM ranks WHERE modality = ? AND object = ? "
            "ORDER BY rank, lot LIMIT ?",
            (modality, name, count),
        )
    taken = rows.execute("SELECT id FROM taken ORDER BY id")
    rows.executemany(
        "INSERT INTO shards VALUES (?, ?)",
        ((name, number // SHARD) for number, (name,) in enumerate(taken)),
    )
