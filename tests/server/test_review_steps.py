"""Taking changes back, drawing findings by hand, lists of cases, and where their files lie."""

from __future__ import annotations

import pytest

from bird_server.review.errors import NothingToUndoError, StaleRevisionError
from bird_server.review.lists import CaseFilter
from bird_server.review.records import Drawing, Edit, NewCase, Places
from bird_server.review.undoing import steps_left
from bird_vlm.contract import Roi
from bird_vlm.errors import BadRequestError
from review_cases import GEOMETRY, a_finding, a_proposal, by

CASE = NewCase("d1", "scan.nii.gz")
UPLOAD = "5" * 64
BOXES = ((4, (1.0, 2.0, 11.0, 12.0)), (5, (1.0, 2.0, 12.0, 13.0)))


def told(finding):
    return finding.content.label, finding.status, finding.undoable, finding.redoable


def test_changes_are_taken_back_and_made_again(a_store, a_liver):
    a_store.accept(a_liver, by("ann", 1))
    a_store.edit(a_liver, by("bob", 2), Edit(label="spleen"))

    assert told(a_store.undo(a_liver, by("ann", 3))) == ("liver", "accepted", 1, 1)
    assert told(a_store.undo(a_liver, by("ann", 4))) == ("liver", "proposed", 0, 2)
    assert told(a_store.redo(a_liver, by("ann", 5))) == ("liver", "accepted", 1, 1)
    assert told(a_store.redo(a_liver, by("ann", 6, "was right"))) == ("spleen", "edited", 2, 0)
    history = a_store.history(a_liver)
    assert [event.kind for event in history][3:] == ["undone", "undone", "redone", "redone"]
    assert (history[-1].reviewer, history[-1].comment) == ("ann", "was right")


def test_a_new_change_forgets_what_could_be_redone(a_store, a_liver):
    a_store.accept(a_liver, by("ann", 1))
    a_store.undo(a_liver, by("ann", 2))
    a_store.reject(a_liver, by("ann", 3))

    with pytest.raises(NothingToUndoError, match="redo"):
        a_store.redo(a_liver, by("ann", 4))
    assert told(a_store.undo(a_liver, by("ann", 4))) == ("liver", "proposed", 0, 1)


def test_the_models_answer_is_not_undone(a_store, a_liver):
    with pytest.raises(NothingToUndoError, match="undo"):
        a_store.undo(a_liver, by("ann", 1))

    assert a_store.finding(a_liver).revision == 1


def test_an_undo_of_an_older_revision_is_refused(a_store, a_liver):
    a_store.accept(a_liver, by("ann", 1))

    with pytest.raises(StaleRevisionError):
        a_store.undo(a_liver, by("bob", 1))


@pytest.mark.parametrize(
    ("kinds", "steps"),
    [
        pytest.param([], (0, 0), id="nothing"),
        pytest.param(["proposed", "reproposed"], (0, 0), id="the model alone"),
        pytest.param(["undone", "redone"], (1, 0), id="what recovery left of a history"),
        pytest.param(["added", "edited", "undone", "rejected"], (1, 0), id="by hand"),
    ],
)
def test_steps_left(kinds, steps):
    assert steps_left(kinds) == steps


def test_a_finding_drawn_by_hand_is_accepted(a_store):
    drawing = Drawing("kidney_left", boxes=BOXES)

    found, is_new = a_store.add_finding(CASE, GEOMETRY, drawing, "ann", "missed")

    assert is_new
    assert (found.status, found.reviewer, found.comment) == ("accepted", "ann", "missed")
    assert found.by_hand
    assert (found.prompt, found.content.score, found.content.slices) == ("kidney_left", 1.0, (4, 5))
    assert [event.kind for event in a_store.history(found.finding_id)] == ["added"]
    with pytest.raises(NothingToUndoError):
        a_store.undo(found.finding_id, by("ann", 1))


def test_an_roi_drawn_by_hand_is_cut_into_boxes(a_store):
    liver = a_finding()
    drawing = Drawing("liver", roi=liver.roi)

    found, _ = a_store.add_finding(CASE, GEOMETRY, drawing, "ann")

    assert found.content.slices == liver.slices
    assert found.content.boxes[0].box_pixel == pytest.approx(liver.boxes[0].box_pixel)


def test_drawing_twice_with_one_id_adds_one_finding(a_store):
    drawing = Drawing("liver", boxes=BOXES, finding_id="a" * 32)
    a_store.add_finding(CASE, GEOMETRY, drawing, "ann")

    found, is_new = a_store.add_finding(CASE, GEOMETRY, drawing, "ann")

    assert (found.finding_id, is_new) == ("a" * 32, False)
    assert len(a_store.report("d1").findings) == 1


@pytest.mark.parametrize(
    ("drawing", "word"),
    [
        pytest.param(Drawing("liver"), "boxes", id="nothing drawn"),
        pytest.param(Drawing("liver", "up", BOXES), "plane", id="plane"),
        pytest.param(Drawing("li<ver", boxes=BOXES), "labels", id="label"),
        pytest.param(Drawing("liver", boxes=((99, BOXES[0][1]),)), "slice", id="slice"),
        pytest.param(Drawing("liver", boxes=((4, (5.0, 5.0, 5.0, 9.0)),)), "boxes", id="no area"),
        pytest.param(Drawing("liver", boxes=BOXES, finding_id="../x"), "finding_id", id="id"),
        pytest.param(
            Drawing("liver", roi=Roi((0, 0, 0), (1, 1, 0), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))),
            "roi",
            id="flat roi",
        ),
    ],
)
def test_a_drawing_that_does_not_fit_is_refused(a_store, drawing, word):
    with pytest.raises(BadRequestError, match=word):
        a_store.add_finding(CASE, GEOMETRY, drawing, "ann")

    assert a_store.summaries() == ()


def test_the_id_of_a_models_finding_cannot_be_drawn_over(a_store, a_liver):
    with pytest.raises(BadRequestError, match="another finding"):
        a_store.add_finding(
            CASE, GEOMETRY, Drawing("liver", boxes=BOXES, finding_id=a_liver), "ann"
        )


def test_what_was_missing_is_not_once_it_is_drawn(a_store):
    a_store.propose(a_proposal(absent=("left kidney",)))

    a_store.add_finding(CASE, GEOMETRY, Drawing("kidney_left", boxes=BOXES), "ann")

    assert a_store.summaries()[0].missing == ()


def test_a_case_is_found_by_its_upload(a_store, a_liver):
    a_store.add_places("d1", Places(UPLOAD, "ct/scan.nii.gz"))

    assert a_store.digest_of(UPLOAD) == "d1"
    assert a_store.digest_of("6" * 64) is None
    assert a_store.report("d1").places == Places(UPLOAD, "ct/scan.nii.gz")
    assert a_store.summaries()[0].places == Places(UPLOAD, "ct/scan.nii.gz")


def test_a_study_that_was_overwritten_belongs_to_its_new_case(a_store, a_liver):
    a_store.add_places("d1", Places(study="scan.nii.gz"))
    a_store.propose(a_proposal(a_finding(), digest="d2"))
    a_store.add_places("d2", Places(study="scan.nii.gz"))

    assert [summary.places.study for summary in a_store.summaries()] == [None, "scan.nii.gz"]


def test_only_uploads_that_people_worked_on_are_to_be_kept(a_store, a_liver):
    a_store.add_places("d1", Places(UPLOAD))
    assert a_store.uploads_in_review() == frozenset()

    a_store.accept(a_liver, by("ann", 1))
    assert a_store.uploads_in_review() == {UPLOAD}

    a_store.reject(a_liver, by("ann", 2))
    assert a_store.uploads_in_review() == frozenset()


def test_cases_are_filtered_sorted_and_paged(a_store):
    for digest, name, absent in (("d1", "Zoe.nii", ()), ("d2", "adam.nii", ("spleen",))):
        a_store.propose(a_proposal(a_finding(), digest=digest, name=name, absent=absent))
    a_store.propose(a_proposal(digest="d3", name="Mia.nii", absent=("liver",)))
    a_store.add_note("d1", "ann", "motion")

    def listed(**wanted):
        page = a_store.cases(CaseFilter(**wanted))
        return [summary.case.volume_digest for summary in page.cases], page.total

    assert listed() == (["d1", "d2", "d3"], 3)
    assert listed(order="name") == (["d2", "d3", "d1"], 3)
    assert listed(order="newest", limit=1, offset=1) == (["d2"], 3)
    assert listed(unreviewed=True) == (["d1", "d2"], 2)
    assert listed(any_missing=True) == (["d2", "d3"], 2)
    assert listed(missing="Spleen") == (["d2"], 1)
    assert listed(name="MIA") == (["d3"], 1)
    assert [summary.notes for summary in a_store.summaries()] == [1, 0, 0]


def test_the_same_remark_again_is_stored_once(a_store, a_liver):
    for text in ("motion", "motion", "artefact", "motion"):
        a_store.add_note("d1", "ann", text)

    assert [note.text for note in a_store.report("d1").notes] == ["motion", "artefact", "motion"]
