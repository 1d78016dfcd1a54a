"""Recovery of a damaged database file: kept whole beside, and what can be read of it taken over.

Python's SQLite has no `.recover`: rows are read from the front, from the back, and in between one
by one, each damaged page costing its own rows only. States are derived again from the histories.
Rows whose case is lost cannot be placed and are left behind, in the file that is kept. SQLite has
no checksums: a flipped bit inside a text may go unnoticed.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from bird_server.review import schema
from bird_server.review.coding import content_from, geometry_from
from bird_server.review.errors import DamagedStoreError
from bird_server.review.records import Event
from bird_server.review.replay import state_after
from bird_server.review.rows import history_of, write_event, write_state

MAX_PROBES = 1_000_000  # rows looked for one by one in a broken table
MAX_MISSES = 2000  # of them in a row, where a table's end is unknown: more than a page can hold
_PAGE_SIZE, _PAGE_COUNT = slice(16, 18), slice(28, 32)  # in the header, big-endian
HISTORY_LOST = "part of the history was lost with a damaged database; please review again"
MAX_BYTES = 1 << 36  # no review database is larger: a header that says so lies
_PARTS = ("", "-wal", "-shm")
_ENTITIES = tuple(table for table in schema.TABLES if table != "states")

Rows = dict[int, tuple]  # row id -> columns


@dataclass(frozen=True)
class Recovery:
    """What happened to a damaged database."""

    reason: str  # SQLite's words
    kept_as: Path  # the damaged file, unchanged
    read: Mapping[str, int]  # rows taken over, by table
    lost: Mapping[str, int]  # rows that are known to be missing, by table; there may be more
    unreadable: tuple[str, ...]  # tables of which nothing could be read

    def text(self) -> str:
        """A report for whoever runs the server."""
        read = ", ".join(f"{count} {table}" for table, count in self.read.items())
        lost = ", ".join(f"{count} {table}" for table, count in self.lost.items() if count)
        unreadable = ", ".join(self.unreadable)
        return (
            f"The review database was damaged ({self.reason}). It is kept unchanged as "
            f"{self.kept_as.name}. Recovered: {read}. "
            f"Known to be lost: {lost or 'nothing'}. "
            + (f"Nothing could be read of: {unreadable}. " if unreadable else "")
            + "Rows may be missing without a trace: compare with a backup, or try the sqlite3 "
            f"program: sqlite3 {self.kept_as.name} .recover"
        )


def recover(path: Path, reason: str) -> Recovery:
    """Puts a sound database at `path`; the caller holds the lock. Raises OSError on a full disk.

    The damaged file, its write-ahead log included, stays as `NAME.damaged-TIME`, and the report
    beside it as `.txt`; until both copies are on the disk, nothing at `path` is touched.
    """
    kept = _kept_name(path)
    _copy(path, kept)
    with tempfile.TemporaryDirectory(prefix=".salvage-", dir=path.parent) as folder:
        damaged, sound = Path(folder, "damaged"), Path(folder, "sound")
        _copy(path, damaged)
        _lengthen(damaged)
        read, lost, unreadable = _salvage(damaged, sound)
        recovery = Recovery(reason, kept, read, lost, unreadable)
        kept.with_name(f"{kept.name}.txt").write_text(recovery.text() + "\n", encoding="utf-8")
        for part in _PARTS[1:]:
            path.with_name(path.name + part).unlink(missing_ok=True)
        sound.replace(path)
    return recovery


def _kept_name(path: Path) -> Path:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return path.with_name(f"{path.name}.damaged-{stamp}")


def _copy(source: Path, target: Path) -> None:
    for part in _PARTS:
        here = source.with_name(source.name + part)
        if here.exists():
            shutil.copy2(here, target.with_name(target.name + part))


def _lengthen(damaged: Path) -> None:
    """SQLite reads nothing of a file that is shorter than its header says: adds empty pages."""
    with damaged.open("r+b") as file:
        header = file.read(100)
        page_bytes = int.from_bytes(header[_PAGE_SIZE], "big")
        page_bytes = 1 << 16 if page_bytes == 1 else page_bytes
        whole = page_bytes * int.from_bytes(header[_PAGE_COUNT], "big")
        if header.startswith(b"SQLite format 3") and damaged.stat().st_size < whole < MAX_BYTES:
            file.truncate(whole)


def _salvage(damaged: Path, sound: Path) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
    with closing(sqlite3.connect(damaged)) as source, closing(sqlite3.connect(sound)) as target:
        source.isolation_level = target.isolation_level = None
        target.row_factory = sqlite3.Row
        target.execute("BEGIN IMMEDIATE")
        schema.migrate(target)
        columns = {table: _columns(target, table) for table in schema.TABLES}
        found = {table: _readable(source, table, columns[table]) for table in schema.TABLES}
        for table in _ENTITIES:
            _insert(target, table, (row for row in (found[table] or {}).values()))
        last = {t: _last_id(source, target, t) for t in ("findings", "events")}
        _stand_in_for_models(target)
        _drop_unplaceable(target)
        _derive_states(target, found["states"] or {})
        read = {table: _count(target, table, last.get(table)) for table in _ENTITIES}
        target.execute("COMMIT")
    lost = {table: last[table] - read[table] for table in last}
    return read, lost, tuple(table for table, rows in found.items() if rows is None)


def _last_id(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> int:
    """The highest id that a table ever had, as far as is known; later rows get higher ones.

    Ids are given without gaps and rows are never removed, so that lost ones can be counted.
    """
    last = target.execute(f"SELECT max(id) FROM {table}").fetchone()[0] or 0
    with suppress(sqlite3.DatabaseError):
        query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
        for (given,) in source.execute(query, (table,)):
            last = max(last, given)
    target.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
    target.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, last))
    return last


def _columns(target: sqlite3.Connection, table: str) -> list[str]:
    return [row["name"] for row in target.execute(f"PRAGMA table_info({table})")]


def _readable(source: sqlite3.Connection, table: str, columns: list[str]) -> Rows | None:
    """All rows of a table that can be read; None where not even its first page can.

    An earlier schema has no such table or column: nothing is missing then, and nothing found.
    """
    try:
        has = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
    except sqlite3.DatabaseError:
        return None
    if not set(columns) <= set(has):
        return {}
    query = f"SELECT {', '.join(columns)} FROM {table} "
    rows, whole = _walk(source, query + "ORDER BY rowid")
    if whole:
        return rows
    from_the_back, _ = _walk(source, query + "ORDER BY rowid DESC")
    between = range(max(rows, default=0) + 1, min(from_the_back, default=MAX_PROBES))
    misses = MAX_PROBES if from_the_back else MAX_MISSES
    one_by_one = _probe(source, query + "WHERE rowid = ?", between[:MAX_PROBES], misses)
    every = {**rows, **one_by_one, **from_the_back}
    return dict(sorted(every.items())) or None


def _walk(source: sqlite3.Connection, query: str) -> tuple[Rows, bool]:
    """Rows up to the first damage, and whether there was none."""
    rows: Rows = {}
    try:
        for row in source.execute(query):
            rows[row[0]] = tuple(row)
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return rows, False
    return rows, True


def _probe(source: sqlite3.Connection, query: str, keys: range, misses: int) -> Rows:
    """The rows of these keys that can be read, until so many in a row cannot."""
    rows: Rows = {}
    missed = 0
    for key in keys:
        row = None
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
            row = source.execute(query, (key,)).fetchone()
        if row:
            rows[key] = tuple(row)
        missed = 0 if row else missed + 1
        if missed > misses:
            break
    return rows


def _insert(target: sqlite3.Connection, table: str, rows) -> None:
    for row in rows:
        marks = ", ".join("?" * len(row))
        if _makes_sense(table, row):
            target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)


def _makes_sense(table: str, row: tuple) -> bool:
    try:
        if table == "cases":
            geometry_from(row[3])
        elif table == "events" and row[8] is not None:
            content_from(row[8])
    except DamagedStoreError:
        return False
    return True


def _stand_in_for_models(target: sqlite3.Connection) -> None:
    """A finding outlives the name of the model that proposed it."""
    target.execute(
        "INSERT INTO models SELECT model_id, 'unknown', 'lost row ' || model_id FROM"
        " (SELECT model_id FROM findings UNION SELECT model_id FROM absences)"
        " WHERE model_id NOT IN (SELECT id FROM models)"
    )


def _drop_unplaceable(target: sqlite3.Connection) -> None:
    for table in ("findings", "absences", "notes"):
        target.execute(f"DELETE FROM {table} WHERE case_id NOT IN (SELECT id FROM cases)")
    _delete_events(target, "finding_id NOT IN (SELECT id FROM findings)")


def _derive_states(target: sqlite3.Connection, states: Rows) -> None:
    for (finding,) in target.execute("SELECT id FROM findings").fetchall():
        history = history_of(target, finding)
        known = _state_event(states[finding]) if finding in states else None
        for event in (added := _mending(history, known)):
            write_event(target, finding, event)
        state = state_after((*history, *added))
        if state:
            write_state(target, finding, state)
    _drop_without_state(target)


def _mending(history: tuple[Event, ...], known: Event | None) -> tuple[Event, ...]:
    """The event that tells where a finding stands, where its history alone does not.

    `known` is its row of `states` as an event. Where that is lost too, and events are missing, the
    finding is open again: nobody is said to have accepted what they may not have seen.
    """
    last = history[-1].revision if history else 0
    if known and known.revision > last:
        return (known,)
    if _tells_all(history):
        return ()
    if known:
        return (replace(known, revision=last + 1),)
    contents = [event.content for event in history if event.content]
    if not contents:
        return ()
    time = history[-1].time
    return (Event(last + 1, "reopened", "proposed", None, time, HISTORY_LOST, contents[-1]),)


def _tells_all(history: tuple[Event, ...]) -> bool:
    """Whether no event is missing since the last one with a content."""
    contents = [n for n, event in enumerate(history) if event.content]
    if not contents:
        return False
    since = history[contents[-1] :]
    return since[-1].revision - since[0].revision == len(since) - 1


def _state_event(row: tuple) -> Event | None:
    """A row of `states` as the event that led to it."""
    _, _, _, status, revision, reviewer, time, comment, content = row
    try:
        told = content_from(content)
    except DamagedStoreError:
        return None
    return Event(revision, status, status, reviewer, time, comment, told)


def _drop_without_state(target: sqlite3.Connection) -> None:
    lost = "SELECT id FROM findings WHERE id NOT IN (SELECT finding_id FROM states)"
    _delete_events(target, f"finding_id IN ({lost})")
    target.execute(f"DELETE FROM findings WHERE id IN ({lost})")


def _delete_events(target: sqlite3.Connection, which: str) -> None:
    """From the new file only, and only what cannot be placed there."""
    guard = "events_are_never_removed"
    target.execute(f"DROP TRIGGER {guard}")
    target.execute(f"DELETE FROM events WHERE {which}")
    target.execute(next(s for step in schema.MIGRATIONS for s in step if guard in s))


def _count(target: sqlite3.Connection, table: str, last: int | None) -> int:
    """Rows up to the id `last`: those that were taken over, not those that mend a history."""
    where = "" if last is None else f"WHERE id <= {last}"
    return target.execute(f"SELECT count(*) FROM {table} {where}").fetchone()[0]
