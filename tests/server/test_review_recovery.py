"""Earlier schemas, newer ones, and files that broke: nothing is deleted, and what is said is true.

The damage is real: pages of a real database overwritten, cut off or emptied.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bird_server.review import schema
from bird_server.review.errors import DamagedStoreError, NewerStoreError
from bird_server.review.lists import WorkFilter
from bird_server.review.records import Edit, ReviewedFinding
from bird_server.review.recovery import HISTORY_LOST
from bird_server.review.replay import state_after
from bird_server.review.store import ReviewStore
from review_cases import a_finding, a_proposal, a_store_in, by

FINDINGS = 40
PAGE_BYTES = 4096


def fill(store: ReviewStore) -> list[str]:
    """Findings of two cases; every other accepted, of those every other edited first."""
    half = FINDINGS // 2
    ids = [
        finding
        for digest in ("d1", "d2")
        for finding in store.propose(
            a_proposal(
                *(a_finding(f"rib {n}") for n in range(half)), digest=digest, absent=("spleen",)
            )
        ).added
    ]
    for n, finding in enumerate(ids):
        if n % 4 == 0:
            store.edit(finding, by("ann", 1), Edit(label=f"vertebra {n}"))
        if n % 2 == 0:
            store.accept(finding, by("bob", 2 if n % 4 == 0 else 1, "seen"))
    store.add_note("d1", "ann", "motion")
    return ids


def everything(store: ReviewStore) -> dict[str, ReviewedFinding]:
    return {f.finding_id: f for f in store.work_list(WorkFilter(limit=500)).findings}


@pytest.fixture(scope="module")
def a_full_store(tmp_path_factory) -> Path:
    """A folder with a closed store; tests copy it."""
    folder = tmp_path_factory.mktemp("full")
    store = a_store_in(folder)
    fill(store)
    store.close()
    assert sorted(p.name for p in folder.iterdir()) == ["review.sqlite3", "review.sqlite3.lock"]
    return folder


@pytest.fixture
def a_copy(a_full_store, tmp_path) -> Path:
    """The database file of a full store, to be broken."""
    return Path(shutil.copy(a_full_store / "review.sqlite3", tmp_path))


def kept_aside(path: Path) -> list[Path]:
    """The damaged files beside, without their logs and reports."""
    return [p for p in path.parent.glob("*.damaged-*") if p.name.endswith("Z")]


def break_page(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        file.seek(number * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)


# Schemas


def at_version(full: Path, version: int, path: Path) -> Path:
    """What a store of an earlier schema with the same reviews would look like."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("BEGIN")
        schema.migrate(old, version)
        old.execute("COMMIT")
        old.execute("ATTACH ? AS full", (str(full / "review.sqlite3"),))
        has = {row[0] for row in old.execute("SELECT name FROM sqlite_master")}
        for table in schema.TABLES:
            if table in has:
                old.execute(f"INSERT INTO {table} SELECT * FROM full.{table}")
    return path


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_a_store_of_every_earlier_schema_opens_with_all_reviews(a_full_store, tmp_path, version):
    at_version(a_full_store, version, tmp_path / "review.sqlite3")

    store = a_store_in(tmp_path)

    assert store.recovery is None
    assert everything(store) == everything(a_store_in(a_full_store))
    store.propose(a_proposal(absent=("pancreas",)))
    store.add_note("d1", "ann", "after the update")
    assert "pancreas" in store.summaries()[0].missing
    with closing(sqlite3.connect(tmp_path / "review.sqlite3")) as connection:
        assert schema.version_of(connection) == schema.VERSION


def test_a_migrated_store_has_the_tables_of_a_new_one(a_full_store, tmp_path):
    def tables(path):
        with closing(sqlite3.connect(path)) as connection:
            return set(connection.execute("SELECT type, name, sql FROM sqlite_master"))

    path = at_version(a_full_store, 1, tmp_path / "review.sqlite3")
    ReviewStore(path).close()

    assert tables(path) == tables(a_full_store / "review.sqlite3")


def test_a_newer_store_is_refused_by_name_and_left_alone(a_copy):
    with closing(sqlite3.connect(a_copy)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = a_copy.read_bytes()

    with pytest.raises(NewerStoreError, match=r"review\.sqlite3.*newer BiRD \(schema 99"):
        ReviewStore(a_copy)

    assert a_copy.read_bytes() == before
    assert kept_aside(a_copy) == []


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "review.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()

    with pytest.raises(NewerStoreError, match="another program"):
        ReviewStore(path)

    assert path.read_bytes() == before


def test_an_empty_file_is_an_empty_store(tmp_path):
    (tmp_path / "review.sqlite3").touch()

    store = a_store_in(tmp_path)

    assert (store.recovery, store.summaries()) == (None, ())


# Damage


def test_a_file_that_is_no_database_is_kept_and_replaced(tmp_path):
    path = tmp_path / "review.sqlite3"
    path.write_bytes(b"once upon a time" * 1000)

    store = a_store_in(tmp_path)

    (kept,) = kept_aside(path)
    assert kept.read_bytes() == b"once upon a time" * 1000
    assert store.recovery.kept_as == kept
    assert "not a database" in store.recovery.reason
    assert store.recovery.unreadable == schema.TABLES
    report = kept.with_name(kept.name + ".txt").read_text()
    assert "Nothing could be read of: cases" in report
    assert ".recover" in report
    assert len(store.propose(a_proposal(a_finding())).added) == 1
    assert a_store_in(tmp_path).recovery is None


@pytest.fixture(scope="module")
def outcomes(a_full_store, tmp_path_factory) -> list[tuple[int, Path, ReviewStore]]:
    """A store recovered from the loss of each single page of the database in turn."""
    whole = a_full_store / "review.sqlite3"
    opened = []
    for page in range(whole.stat().st_size // PAGE_BYTES):
        folder = tmp_path_factory.mktemp(f"page{page}-")
        path = Path(shutil.copy(whole, folder))
        break_page(path, page)
        opened.append((page, path, a_store_in(folder)))
    return opened


def test_whichever_page_is_lost_the_damaged_file_is_kept(outcomes):
    for page, path, store in outcomes:
        if store.recovery is None:
            continue  # a free page: nothing was lost
        (kept,) = kept_aside(path)
        assert kept.read_bytes()[page * PAGE_BYTES :][:PAGE_BYTES] == b"\xa5" * PAGE_BYTES


def test_whichever_page_is_lost_no_review_is_made_up(outcomes, a_full_store):
    truth = everything(a_store_in(a_full_store))

    for _, _, store in outcomes:
        for finding_id, found in everything(store).items():
            true = truth[finding_id]
            if found.comment == HISTORY_LOST:
                assert found.status == "proposed"
            elif found.reviewer:
                told = (found.content, found.status, found.reviewer, found.comment)
                assert told == (true.content, true.status, true.reviewer, true.comment)


def test_whichever_page_is_lost_states_follow_from_histories(outcomes):
    for _, _, store in outcomes:
        for finding_id, found in everything(store).items():
            state = state_after(store.history(finding_id))
            assert state.content == found.content
            assert (state.status, state.revision) == (found.status, found.revision)


def test_a_lost_page_costs_only_what_was_on_it(outcomes):
    """Page 1 holds the schema, and a few hold all the cases: nothing can be placed without."""
    kept = sorted(len(everything(store)) for _, _, store in outcomes)

    assert len(outcomes) > 30
    assert kept[len(kept) // 10] >= FINDINGS - 2  # nine times of ten nearly all
    assert sum(n == FINDINGS for n in kept) > len(kept) / 2


def test_what_is_lost_is_told(outcomes):
    for _, _, store in outcomes:
        missing = FINDINGS - len(everything(store))
        if missing:
            recovery = store.recovery
            assert recovery.lost["findings"] == missing or "findings" in recovery.unreadable


def test_a_recovered_store_works_on(outcomes):
    for _, path, store in outcomes[::7]:
        (added,) = store.propose(a_proposal(a_finding("new"), digest="d9")).added
        store.accept(added, by("ann", 1))
        assert ReviewStore(path).recovery is None


def test_a_file_that_was_cut_off_gives_back_its_front(a_copy):
    size = a_copy.stat().st_size
    with a_copy.open("r+b") as file:
        file.truncate(size // 2)

    store = ReviewStore(a_copy)

    (kept,) = kept_aside(a_copy)
    assert kept.stat().st_size == size // 2
    assert len(everything(store)) > 0
    assert store.recovery.lost["findings"] == FINDINGS - len(everything(store)) > 0
    assert store.recovery.lost["events"] > 0


def test_reviews_that_are_only_in_the_log_are_recovered(a_copy, tmp_path):
    """A crash image: the files as they lie while a reader keeps the log from being folded in."""
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    store = ReviewStore(a_copy)
    with closing(sqlite3.connect(a_copy)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        finding = next(f for f in everything(store).values() if f.status == "proposed")
        accepted = store.accept(finding.finding_id, by("cleo", 1))
        for part in ("", "-wal", "-shm"):
            shutil.copy(f"{a_copy}{part}", crashed)
    image = crashed / "review.sqlite3"
    assert (crashed / "review.sqlite3-wal").stat().st_size > 0
    with closing(sqlite3.connect(f"{image.as_uri()}?immutable=1", uri=True)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'notes'"
        (page,) = connection.execute(query).fetchone()
    break_page(image, page - 1)

    recovered = ReviewStore(image)

    assert recovered.recovery is not None
    assert recovered.recovery.unreadable == ("notes",)
    assert recovered.finding(accepted.finding_id) == accepted
    (kept,) = kept_aside(image)
    assert kept.with_name(f"{kept.name}-wal").stat().st_size > 0


def test_damage_that_shows_while_running_is_named(a_copy):
    store = ReviewStore(a_copy)
    for page in range(2, a_copy.stat().st_size // PAGE_BYTES):
        break_page(a_copy, page)

    with pytest.raises(DamagedStoreError, match="restart the server"):
        store.propose(a_proposal(a_finding("new"), digest="d9"))
