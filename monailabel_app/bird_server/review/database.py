"""The database file: opened, checked, migrated; one transaction per change, one connection each.

A connection lives for one transaction, so threads and replaced files need no care; one more stays
open and idle, since SQLite folds the log in, with several syncs, when the last one closes.
Write-ahead logging with `synchronous = FULL`: what was committed survives a kill and a power cut.
Knows nothing about findings.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock

from bird_server.review import schema
from bird_server.review.errors import (
    DamagedStoreError,
    NewerStoreError,
    ReviewError,
    StoreBusyError,
    StoreWriteError,
)
from bird_server.review.recovery import Recovery, recover

BUSY_TIMEOUT_S = 10.0
OPENING_TIMEOUT_S = 120.0  # another process may be recovering the file
logger = logging.getLogger(__name__)

# SQLite's messages do not change between versions; Python 3.10 does not give their codes.
_FULL = "the disk is full; nothing of this change is stored: free some space and try again"
_UNWRITABLE = "cannot be written; nothing of this change is stored: check the disk and the rights"
_BUSY = "another process is writing for too long; nothing of this change is stored: try again"
_DAMAGED = "is damaged; restart the server, which keeps the file and recovers what it can"
_GONE = "cannot be opened; was it moved away? Restart the server"
_TROUBLES: tuple[tuple[str, type[ReviewError], str], ...] = (
    ("is full", StoreWriteError, _FULL),
    ("disk I/O error", StoreWriteError, _UNWRITABLE),
    ("readonly", StoreWriteError, _UNWRITABLE),
    ("locked", StoreBusyError, _BUSY),
    ("malformed", DamagedStoreError, _DAMAGED),
    ("not a database", DamagedStoreError, _DAMAGED),
    ("decode to UTF-8", DamagedStoreError, _DAMAGED),
    ("unable to open", ReviewError, _GONE),
    ("no such table", ReviewError, _GONE),
)


class Database:
    """A SQLite file with the tables of `schema.py`.

    Opening makes the file where it is missing and migrates an older one. A broken file is kept
    beside under another name, and what can be read of it is taken over: `recovery` tells, and is
    None where nothing was wrong. Raises NewerStoreError, StoreWriteError.
    """

    def __init__(self, path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = path
        self.recovery: Recovery | None = None
        self._busy_timeout_s = busy_timeout_s
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock", timeout=OPENING_TIMEOUT_S), self._told():
                self._open()
                self._anchor = self._connect("rw")
                schema.version_of(self._anchor)  # a connection opens the file at its first question
        except OSError as error:
            raise StoreWriteError(f"{path}: cannot be opened ({error}); check the disk") from error

    def close(self) -> None:
        """Folds the log into the file, unless others use it; later transactions still work."""
        self._anchor.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one moment, whatever is written meanwhile."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are stored together at the end, or not at all.

        Raises StoreBusyError, StoreWriteError, DamagedStoreError.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Closing a connection rolls back what was not committed."""
        with self._told(), closing(self._connect("rw")) as connection:
            connection.execute(begin)
            yield connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,  # whoever stops the server closes it
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite raises, as an error that says what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            for words, kind, advice in _TROUBLES:
                if words in str(error):
                    raise kind(f"{self.path.name}: {advice} ({error})") from error
            raise

    def _open(self) -> None:
        damage = self._damage() if self.path.exists() else None
        if damage:
            self.recovery = recover(self.path, damage)
            logger.warning("%s", self.recovery.text())
        with self._told(), closing(self._connect("rwc")) as connection:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise ReviewError(
                    f"{self.path}: this file system allows no write-ahead log (mode {mode!r}); "
                    "put the studies on a local disk"
                )
            connection.execute("BEGIN IMMEDIATE")
            schema.migrate(connection)
            connection.execute("COMMIT")

    def _damage(self) -> str | None:
        """What is broken about the file, which this leaves as it is. Raises NewerStoreError.

        Read-only, since closing would otherwise fold the log into a file that may be broken. What
        was killed before it had a log has a journal instead, which has to be rolled back first.
        """
        journal = self.path.with_name(f"{self.path.name}-journal")
        try:
            with closing(self._connect("rw" if journal.exists() else "ro")) as connection:
                self._check_owner(connection)
                found = connection.execute("PRAGMA integrity_check(5)").fetchall()
                broken = [row[0] for row in found if row[0] != "ok"]
                return "; ".join(broken) or None
        except sqlite3.DatabaseError as error:
            with self._told():
                if "malformed" in str(error) or "not a database" in str(error):
                    return str(error)
                raise

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        version = schema.version_of(connection)
        if schema.is_foreign(connection):
            raise NewerStoreError(
                f"{self.path}: is a database of another program; move it away and start again"
            )
        if version > schema.VERSION:
            raise NewerStoreError(
                f"{self.path}: was written by a newer BiRD (schema {version}, this one knows "
                f"{schema.VERSION}); update BiRD, or open another studies folder"
            )
