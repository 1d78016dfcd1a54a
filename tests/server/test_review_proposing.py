"""Proposing again: the same object is one finding, and what people decided stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bird_server.review.lists import WorkFilter
from bird_server.review.records import Edit, ModelVersion
from bird_vlm.errors import BadRequestError
from review_cases import GEOMETRY, a_finding, a_proposal, by


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
