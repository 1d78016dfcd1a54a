"""What no one plans for: a kill in the middle of a write, two servers on one store, a full disk.

Each fault is the real one, in a child process.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bird_server.review.errors import StaleRevisionError
from bird_server.review.lists import WorkFilter
from bird_server.review.replay import state_after
from bird_server.review.store import ReviewStore
from review_cases import a_finding, a_proposal, a_store_in, by

BATCH = 50  # findings of one transaction

PROPOSE_FOR_EVER = f"""
n = int(sys.argv[2])
while True:
    n += 1
    print("begin", n, flush=True)
    findings = [a_finding(f"rib {{k}}") for k in range({BATCH})]
    store.propose(a_proposal(*findings, digest=f"d{{n}}"))
    print("done", n, flush=True)
"""
ACCEPT_ALL = """
name = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
won, lost, added = 0, 0, 0
for n in range(12):
    added += len(store.propose(a_proposal(a_finding(f"rib {n}"), digest="shared")).added)
for finding in store.work_list(WorkFilter(volume_digest="race", limit=500)).findings:
    try:
        store.accept(finding.finding_id, by(name, 1))
        won += 1
    except StaleRevisionError:
        lost += 1
print(won, lost, added)
"""
FILL_UP = """
n = 0
try:
    while True:
        findings = [a_finding(f"rib {k}", 0, 19) for k in range(20)]
        store.propose(a_proposal(*findings, digest=f"d{n}"))
        n += 1
except StoreWriteError as error:
    print("refused", n, error)
"""
PREAMBLE = """
import sys
from pathlib import Path
from bird_server.review.errors import StaleRevisionError, StoreWriteError
from bird_server.review.lists import WorkFilter

from review_cases import a_finding, a_proposal, a_store_in, by
store = a_store_in(Path(sys.argv[1]))
"""


def command(program: str, folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PREAMBLE + program, str(folder), *arguments]


def start(program: str, folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        command(program, folder, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )


def check_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_kill_in_the_middle_of_a_write_loses_nothing_and_leaves_nothing_half_done(tmp_path):
    caught_writing, last = 0, 0
    for delay_s in (0.002, 0.02, 0.06):
        child = start(PROPOSE_FOR_EVER, tmp_path, str(last))
        for line in child.stdout:
            if line == f"begin {last + 3}\n":
                break
        time.sleep(delay_s)
        child.kill()
        rest = child.stdout.read().split("\n")
        child.wait()
        done = [int(line.split()[1]) for line in rest if line.startswith("done")]
        acknowledged = max(done, default=last + 2)
        caught_writing += [line for line in rest if line][-1:] != [f"done {acknowledged}"]

        store = ReviewStore(tmp_path / "review.sqlite3")

        assert store.recovery is None
        counts = [case.counts["proposed"] for case in store.summaries()]
        assert set(counts) == {BATCH}
        assert len(counts) in (acknowledged, acknowledged + 1)
        check_sound(tmp_path / "review.sqlite3")
        last = len(counts)
    assert caught_writing > 0


KILLED_BEFORE_COMMIT = """
import os, signal
from bird_server.review.proposing import write_proposal
with store._database.writing() as connection:
    findings = [a_finding(f"vertebra {k}") for k in range(200)]
    write_proposal(connection, a_proposal(*findings), "2026-01-02T03:04:05.000+00:00")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_kill_before_the_commit_leaves_the_store_as_it_was(tmp_path):
    store = a_store_in(tmp_path)
    (liver,) = store.propose(a_proposal(a_finding())).added
    before = store.accept(liver, by("ann", 1))

    child = subprocess.run(
        command(KILLED_BEFORE_COMMIT, tmp_path),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )

    assert child.returncode == -signal.SIGKILL
    after = a_store_in(tmp_path)
    assert (after.recovery, after.work_list(WorkFilter()).findings) == (None, (before,))
    assert len(store.propose(a_proposal(a_finding("spleen"))).added) == 1  # the running one too
    check_sound(tmp_path / "review.sqlite3")


def test_two_writers_at_once_share_the_work_and_never_the_same_finding(tmp_path):
    store = a_store_in(tmp_path)
    store.propose(a_proposal(*(a_finding(f"rib {n}") for n in range(30)), digest="race"))

    children = [start(ACCEPT_ALL, tmp_path, name) for name in ("ann", "bob")]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [[int(n) for n in child.communicate(timeout=120)[0].split()] for child in children]

    assert [child.returncode for child in children] == [0, 0]
    assert sum(won for won, _, _ in told) == 30
    assert sum(added for *_, added in told) == 12
    race = store.work_list(WorkFilter(volume_digest="race", limit=500)).findings
    for finding in race:
        history = store.history(finding.finding_id)
        assert [event.kind for event in history] == ["proposed", "accepted"]
        assert state_after(history).reviewer == finding.reviewer
    by_name = [sum(f.reviewer == name for f in race) for name in ("ann", "bob")]
    assert by_name == [won for won, _, _ in told]
    assert store.work_list(WorkFilter(volume_digest="shared")).total == 12
    check_sound(tmp_path / "review.sqlite3")


def test_many_threads_of_one_server_decide_each_finding_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    store = a_store_in(tmp_path)
    (finding,) = store.propose(a_proposal(a_finding())).added

    def accept(n: int) -> bool:
        try:
            store.accept(finding, by(f"reviewer {n}", 1))
        except StaleRevisionError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(accept, range(16))) == 1
    assert store.finding(finding).revision == 2


def can_mount_tmpfs() -> bool:
    if not shutil.which("unshare"):
        return False
    script = "mount -t tmpfs -o size=1m none /mnt"
    run = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, check=False)
    return run.returncode == 0


@pytest.mark.skipif(not can_mount_tmpfs(), reason="this user may not mount a tmpfs")
def test_a_full_disk_is_named_and_nothing_acknowledged_is_lost(tmp_path):
    """A tmpfs of 2 MB in a mount namespace of its own; what it holds is copied out at the end."""
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    out.mkdir()
    inside = (
        'mount -t tmpfs -o size=2m none "$0" && "$@"; status=$?; cp "$0"/review* ' + f"{out};"
        " exit $status"
    )
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, str(disk), *command(FILL_UP, disk)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )

    check_refused(run, out)
    assert "the disk is full" in run.stdout


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))
"""


def test_a_file_that_may_not_grow_is_named_and_nothing_acknowledged_is_lost(tmp_path):
    pytest.importorskip("resource", reason="needs a limit of the file size")

    run = subprocess.run(
        command(LIMITED + FILL_UP, tmp_path),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )

    check_refused(run, tmp_path)
    assert "cannot be written" in run.stdout


def check_refused(run: subprocess.CompletedProcess, folder: Path) -> None:
    """The child stored some proposals, was refused once with advice, and these are whole."""
    assert run.returncode == 0, run.stderr
    word, stored, *_ = run.stdout.split()
    assert word == "refused"
    assert int(stored) > 0
    assert "nothing of this change is stored" in run.stdout
    store = ReviewStore(folder / "review.sqlite3")
    assert store.recovery is None
    assert [case.counts["proposed"] for case in store.summaries()] == [20] * int(stored)
    check_sound(folder / "review.sqlite3")
    (finding, *_) = store.work_list(WorkFilter()).findings
    assert store.accept(finding.finding_id, by("ann", 1)).status == "accepted"  # with room again
