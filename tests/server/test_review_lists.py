"""Lists of findings and of cases: filtered, in pages, with what is missing."""

from __future__ import annotations

import pytest

from bird_server.review.lists import CaseFilter, WorkFilter
from bird_server.review.records import ModelVersion
from bird_vlm.errors import BadRequestError
from review_cases import a_finding, a_proposal, by


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
