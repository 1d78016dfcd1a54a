"""The review store: what is proposed once, decided by people, and never forgotten."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from bird_server.review.errors import (
    StaleRevisionError,
    StoreBusyError,
    UnknownCaseError,
    UnknownFindingError,
)
from bird_server.review.lists import CaseFilter, WorkFilter
from bird_server.review.records import By, Edit, ModelVersion, NewCase
from bird_server.review.replay import original_of
from bird_server.review.store import ReviewStore
from bird_vlm.contract import Roi
from bird_vlm.errors import BadRequestError
from bird_vlm.slices import slice_stack
from review_cases import GEOMETRY, MINI, a_finding, a_proposal, a_store_in, by


@pytest.fixture
def a_store(tmp_path) -> ReviewStore:
    return a_store_in(tmp_path)


@pytest.fixture
def a_liver(a_store) -> str:
    """The id of a proposed liver on slices 3 to 6."""
    return a_store.propose(a_proposal(a_finding())).added[0]


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


# Proposing again


def test_the_same_answer_is_stored_once(a_store, a_liver):
    again = a_store.propose(a_proposal(a_finding()))

    assert (again.added, again.updated, again.kept) == ((), (), (a_liver,))
    assert a_store.work_list(WorkFilter()).total == 1
    assert len(a_store.history(a_liver)) == 1


@pytest.mark.parametrize("decide", ["accept", "reject", "reopen"])
def test_a_reviewed_finding_is_not_proposed_again_nor_overwritten(a_store, a_liver, decide):
    decided = getattr(a_store, decide)(a_liver, by("ann", 1))

    again = a_store.propose(a_proposal(a_finding(first=2, last=9)))

    assert again.kept == (a_liver,)
    assert a_store.finding(a_liver) == decided


def test_an_edited_finding_is_known_by_what_the_model_had_said(a_store, a_liver):
    far = Edit(boxes=((15, (30.0, 20.0, 35.0, 25.0)),))
    moved = a_store.edit(a_liver, by("ann", 1), far)

    again = a_store.propose(a_proposal(a_finding()))

    assert again.kept == (a_liver,)
    assert a_store.finding(a_liver) == moved


def test_an_unreviewed_finding_grows_when_more_of_it_is_seen(a_store, a_liver):
    again = a_store.propose(a_proposal(a_finding(first=2, last=9)))

    assert again.updated == (a_liver,)
    assert a_store.finding(a_liver).content.slices == (2, 9)
    assert [e.kind for e in a_store.history(a_liver)] == ["proposed", "reproposed"]


def test_an_unreviewed_finding_does_not_shrink(a_store, a_liver):
    again = a_store.propose(a_proposal(a_finding(first=4, last=5)))

    assert again.kept == (a_liver,)
    assert a_store.finding(a_liver).content.slices == (3, 6)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(a_proposal(a_finding(), digest="d2"), id="volume"),
        pytest.param(a_proposal(a_finding("spleen")), id="prompt"),
        pytest.param(a_proposal(a_finding(), model=ModelVersion("bird-mini", "ff")), id="version"),
        pytest.param(a_proposal(a_finding(box_pixel=(20, 18, 30, 29))), id="place"),
        pytest.param(a_proposal(a_finding(plane="coronal"), plane="coronal"), id="plane"),
    ],
)
def test_another_question_or_object_is_another_finding(a_store, a_liver, other):
    assert len(a_store.propose(other).added) == 1
    assert a_store.work_list(WorkFilter()).total == 2


def test_one_prompt_in_two_spellings_is_one_question(a_store):
    first = a_store.propose(a_proposal(a_finding("kidney_left")))

    assert a_store.propose(a_proposal(a_finding("Left Kidney"))).kept == first.added


def test_two_lungs_stay_two(a_store):
    lungs = [a_finding("lung", box_pixel=(x, 5, x + 10, 20)) for x in (2, 25)]

    added = a_store.propose(a_proposal(*lungs)).added
    kept = a_store.propose(a_proposal(*reversed(lungs))).kept

    assert len(set(added)) == 2
    assert kept == tuple(reversed(added))


def test_a_digest_with_another_geometry_is_refused(a_store, a_liver):
    moved = replace(GEOMETRY, shape_ijk=(40, 30, 21))

    with pytest.raises(BadRequestError, match="volume_digest: d1 is known with another shape"):
        a_store.propose(a_proposal(a_finding("spleen"), geometry=moved))

    assert a_store.work_list(WorkFilter()).total == 1


def test_a_score_that_is_no_number_stores_nothing(a_store):
    broken = a_proposal(a_finding("spleen"), a_finding(score=float("nan")))

    with pytest.raises(BadRequestError, match="score"):
        a_store.propose(broken)

    assert a_store.summaries() == ()


# Editing


def test_edited_boxes_bring_corners_and_roi_with_them(a_store, a_liver):
    box_pixel = (2.0, 3.0, 12.0, 13.0)

    content = a_store.edit(
        a_liver, by("ann", 1), Edit(boxes=((8, box_pixel), (7, box_pixel)))
    ).content

    stack = slice_stack(GEOMETRY, "axial")
    assert [box.slice for box in content.boxes] == [7, 8]
    assert content.boxes[1].corners_ras == stack.corners_ras(8, box_pixel)
    assert content.roi.size_mm == pytest.approx((15.0, 15.0, 8.0))
    assert content.score == 0.8


def test_an_edited_roi_cuts_its_boxes_anew(a_store, a_liver):
    roi = a_finding(first=4, last=9, box_pixel=(6.0, 6.0, 20.0, 11.0)).roi

    content = a_store.edit(a_liver, by("ann", 1), Edit(roi=roi)).content

    assert content.roi == roi
    assert content.slices == (4, 9)
    for box in content.boxes:
        assert box.box_pixel == pytest.approx((6.0, 6.0, 20.0, 11.0))


UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
BOX = (1.0, 1.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        pytest.param(Edit(), "changes nothing", id="nothing"),
        pytest.param(Edit(label="liver"), "changes nothing", id="the same label"),
        pytest.param(Edit(label="a<b"), "labels", id="label with control marks"),
        pytest.param(Edit(boxes=()), "boxes", id="no boxes"),
        pytest.param(Edit(boxes=((3, BOX), (3, BOX))), "one box on each", id="two on a slice"),
        pytest.param(Edit(boxes=((20, BOX),)), r"0\.\.19", id="beyond the last slice"),
        pytest.param(Edit(boxes=((3, (5.0, 1.0, 5.0, 2.0)),)), "x0 < x1", id="no extent"),
        pytest.param(Edit(boxes=((3, (0.0, 0.0, 41.0, 2.0)),)), "<= 40", id="beyond the edge"),
        pytest.param(Edit(boxes=((3, (float("nan"), 0.0, 4.0, 2.0)),)), "x0 < x1", id="NaN"),
        pytest.param(Edit(roi=Roi((0, 0, 0), (1, 0, 1), UPRIGHT)), "positive", id="flat ROI"),
        pytest.param(Edit(roi=Roi((0, 0, 0), (1, 1, 1), (UPRIGHT[0],) * 3)), "rotation", id="skew"),
        pytest.param(Edit(roi=Roi((900, 0, 0), (9, 9, 9), UPRIGHT)), "no slice", id="far away"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(a_store, a_liver, edit, words):
    with pytest.raises(BadRequestError, match=words):
        a_store.edit(a_liver, by("ann", 1), edit)

    assert a_store.finding(a_liver).revision == 1


# Lists


def total(store, **wanted) -> int:
    return store.work_list(WorkFilter(**wanted)).total


def digests(store, **wanted) -> list[str]:
    return [summary.case.volume_digest for summary in store.cases(CaseFilter(**wanted)).cases]


def test_the_work_list_filters(a_store):
    liver, kidney = a_store.propose(
        a_proposal(a_finding(), a_finding("kidney_right", score=0.3))
    ).added
    other = ModelVersion("bird-large", "aa")
    a_store.propose(a_proposal(a_finding(score=0.5), digest="d2", model=other))
    a_store.accept(liver, by("ann", 1))

    assert total(a_store) == 3
    assert total(a_store, statuses=("proposed",)) == 2
    assert total(a_store, statuses=("accepted", "rejected")) == 1
    assert total(a_store, label="Right Kidney") == 1
    assert total(a_store, model="bird-large") == 1
    assert total(a_store, model="bird-large", version="bb") == 0
    assert total(a_store, reviewer="ann") == 1
    assert total(a_store, volume_digest="d1", statuses=("proposed",)) == 1
    (uncertain,) = a_store.work_list(WorkFilter(order="least certain", limit=1)).findings
    assert uncertain.finding_id == kidney


def test_the_work_list_comes_in_pages(a_store):
    added = a_store.propose(a_proposal(*(a_finding(f"rib {n}") for n in range(7)))).added

    pages = [a_store.work_list(WorkFilter(limit=3, offset=offset)) for offset in (0, 3, 6)]

    assert tuple(f.finding_id for page in pages for f in page.findings) == added
    assert {page.total for page in pages} == {7}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param({"statuses": ("done",)}, "statuses", id="status"),
        pytest.param({"order": "best"}, "order", id="order"),
        pytest.param({"limit": 0}, "limit", id="no rows"),
        pytest.param({"limit": 501}, "limit", id="too many rows"),
        pytest.param({"offset": -1}, "offset", id="offset"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(wanted, words):
    with pytest.raises(BadRequestError, match=words):
        WorkFilter(**wanted)


def test_an_organ_that_was_asked_for_and_not_found_is_missing(a_store):
    a_store.propose(a_proposal(a_finding(), absent=("Spleen", "kidney_left")))
    a_store.propose(a_proposal(a_finding(), digest="d2", absent=("left kidney",)))

    with_spleen, without = a_store.summaries()

    assert with_spleen.missing == ("Spleen", "kidney_left")
    assert without.missing == ("left kidney",)
    assert digests(a_store, missing="spleen") == ["d1"]
    assert [a.prompt for a in a_store.report("d1").absences] == ["Spleen", "kidney_left"]


def test_an_absence_is_stored_once(a_store):
    for _ in range(2):
        a_store.propose(a_proposal(absent=("spleen",)))

    assert len(a_store.report("d1").absences) == 1


def test_an_organ_found_later_is_missing_no_more_until_it_is_rejected(a_store):
    a_store.propose(a_proposal(absent=("spleen",)))
    (spleen,) = a_store.propose(a_proposal(a_finding("spleen"))).added

    assert a_store.summaries()[0].missing == ()
    a_store.reject(spleen, by("ann", 1))
    assert a_store.summaries()[0].missing == ("spleen",)


def test_cases_count_their_findings(a_store, a_liver):
    a_store.propose(a_proposal(a_finding("spleen")))
    a_store.propose(a_proposal(a_finding(), digest="d2"))
    a_store.accept(a_liver, by("ann", 1))

    (first, second) = a_store.summaries()

    assert first.counts == {"proposed": 1, "accepted": 1, "edited": 0, "rejected": 0}
    assert second.counts["proposed"] == 1
    (spleen,) = a_store.work_list(WorkFilter(label="spleen")).findings
    a_store.reject(spleen.finding_id, by("ann", 1))
    assert digests(a_store, unreviewed=True) == ["d2"]


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


# Refusals


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
