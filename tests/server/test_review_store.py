"""The review store: what people decided is kept, and never forgotten."""

from __future__ import annotations

import sqlite3

import pytest

from bird_server.review.errors import (
    StaleRevisionError,
    StoreBusyError,
    UnknownCaseError,
    UnknownFindingError,
)
from bird_server.review.records import By, Edit, ModelVersion, NewCase
from bird_server.review.replay import original_of
from bird_server.review.store import ReviewStore
from bird_vlm.errors import BadRequestError
from review_cases import GEOMETRY, MINI, a_finding, a_proposal, by


def test_a_proposal_is_kept_with_all_that_it_says(a_store, a_liver):
    found = a_store.finding(a_liver)

    assert found.content.finding() == a_finding()
    assert (found.case.volume_digest, found.case.name) == ("d1", "scan.nii.gz")
    assert found.case.geometry == GEOMETRY
    assert (found.model, found.prompt, found.plane, found.window) == (
        MINI,
        "liver",
        "axial",
        (40.0, 400.0),
    )
    assert (found.status, found.revision, found.reviewer) == ("proposed", 1, None)
    assert found.time == "2026-01-02T03:04:05.000+00:00"


@pytest.mark.parametrize(
    ("decide", "status"),
    [
        pytest.param("accept", "accepted", id="accept"),
        pytest.param("reject", "rejected", id="reject"),
        pytest.param("reopen", "proposed", id="reopen"),
    ],
)
def test_a_decision_is_kept_with_who_when_and_why(a_store, a_liver, decide, status):
    found = getattr(a_store, decide)(a_liver, by("ann", 1, "seen\non slice 4"))

    assert found == a_store.finding(a_liver)
    assert (found.status, found.revision, found.reviewer) == (status, 2, "ann")
    assert (found.comment, found.time) == ("seen\non slice 4", "2026-01-02T03:04:06.000+00:00")
    assert found.content.finding() == a_finding()


def test_the_history_tells_every_step_and_keeps_the_original(a_store, a_liver):
    a_store.edit(a_liver, by("ann", 1), Edit(label="spleen"))
    a_store.reject(a_liver, by("bob", 2, "no"))
    a_store.accept(a_liver, by("cleo", 3))

    history = a_store.history(a_liver)

    assert [(e.revision, e.kind, e.reviewer) for e in history] == [
        (1, "proposed", None),
        (2, "edited", "ann"),
        (3, "rejected", "bob"),
        (4, "accepted", "cleo"),
    ]
    assert original_of(history).finding() == a_finding()
    assert a_store.finding(a_liver).content.label == "spleen"


@pytest.mark.parametrize("change", ["UPDATE events SET reviewer = 'eve'", "DELETE FROM events"])
def test_the_database_itself_refuses_to_change_history(tmp_path, a_store, a_liver, change):
    connection = sqlite3.connect(tmp_path / "review.sqlite3")
    with pytest.raises(sqlite3.IntegrityError, match="history is never"):
        connection.execute(change)
    connection.close()


def test_a_stale_change_is_refused_and_tells_who_was_first(a_store, a_liver):
    a_store.reject(a_liver, by("ann", 1))

    with pytest.raises(
        StaleRevisionError, match=r"ann changed this finding at 2026.*rejected"
    ) as e:
        a_store.accept(a_liver, by("bob", 1))

    assert e.value.revision == 2
    assert a_store.finding(a_liver).status == "rejected"
    assert len(a_store.history(a_liver)) == 2


def test_a_revision_from_the_future_is_a_mistake(a_store, a_liver):
    with pytest.raises(BadRequestError, match="at revision 1, got 7"):
        a_store.accept(a_liver, by("ann", 7))


def test_two_edits_of_one_revision_keep_the_first(a_store, a_liver):
    a_store.edit(a_liver, by("ann", 1), Edit(label="spleen"))

    with pytest.raises(StaleRevisionError):
        a_store.edit(a_liver, by("bob", 1), Edit(label="kidney"))

    assert a_store.finding(a_liver).content.label == "spleen"


def test_notes_are_kept_in_order(a_store, a_liver):
    a_store.add_note("d1", "ann", "motion")
    a_store.add_note("d1", "bob", "status after splenectomy\n2019")

    notes = a_store.report("d1").notes

    assert [(n.reviewer, n.text) for n in notes] == [
        ("ann", "motion"),
        ("bob", "status after splenectomy\n2019"),
    ]


def test_a_report_holds_all_of_a_case(a_store, a_liver):
    a_store.propose(a_proposal(a_finding(), digest="d2"))
    a_store.accept(a_liver, by("ann", 1))

    report = a_store.report("d1")

    assert [f.finding_id for f in report.findings] == [a_liver]
    assert [e.kind for e in report.histories[a_liver]] == ["proposed", "accepted"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda: By("", 1), "reviewer", id="no reviewer"),
        pytest.param(lambda: By("a\nb", 1), "reviewer", id="reviewer in two lines"),
        pytest.param(lambda: By("x" * 256, 1), "reviewer", id="long reviewer"),
        pytest.param(lambda: By("ann", 0), "revision", id="revision 0"),
        pytest.param(lambda: By("ann", 2**63), "revision", id="huge revision"),
        pytest.param(lambda: By("ann", 1, "x" * 4001), "comment", id="long comment"),
        pytest.param(lambda: By("ann", 1, "a\0b"), "comment", id="NUL"),
        pytest.param(lambda: By("ann", 1, "\ud800"), "comment", id="half a surrogate"),
        pytest.param(lambda: NewCase("", "scan"), "volume_digest", id="no digest"),
        pytest.param(lambda: ModelVersion("m", ""), "version", id="no version"),
    ],
)
def test_text_that_cannot_be_kept_is_refused(make, words):
    with pytest.raises(BadRequestError, match=words):
        make()


def test_unknown_ids_are_named(a_store):
    with pytest.raises(UnknownFindingError, match="finding_id"):
        a_store.accept("0" * 32, by("ann", 1))
    with pytest.raises(UnknownCaseError, match="case"):
        a_store.add_note("nowhere", "ann", "x")
    with pytest.raises(UnknownCaseError, match="case"):
        a_store.report("nowhere")


def test_a_database_that_stays_locked_says_so(tmp_path, a_store, a_liver):
    impatient = ReviewStore(tmp_path / "review.sqlite3", busy_timeout_s=0.05)
    other = sqlite3.connect(tmp_path / "review.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreBusyError, match="nothing of this change is stored"):
            impatient.accept(a_liver, by("ann", 1))
        assert impatient.finding(a_liver).revision == 1  # readers do not wait
    finally:
        other.close()
