"""Which case to look at next: uncertainty, disagreement, missing organs, and the choice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_server.learning.anatomy import TOGETHER, suspicion
from bird_server.learning.case_score import CaseScore, scored
from bird_server.learning.disagreement import disagreement, finding_disagreement
from bird_server.learning.missing import missing_organs
from bird_server.learning.strategies import STRATEGIES, ranked
from bird_server.learning.uncertainty import entropy, finding_uncertainty, uncertainty
from bird_server.review.records import Edit, content_of
from bird_vlm.errors import BadRequestError
from bird_vlm.labels import natural_name
from review_cases import a_finding, a_proposal, by


def proposed(store, *findings, digest: str = "d1", absent: tuple[str, ...] = ()):
    """The report of a case with these findings, and their ids."""
    added = store.propose(a_proposal(*findings, digest=digest, absent=absent)).added
    return store.report(digest), added


def jumping(*xs: float):
    """A finding whose box of 10 x 10 pixels lies at these columns, slice by slice."""
    boxes = [a_finding(first=3 + n, last=3 + n, box_pixel=(x, 5.0, x + 10, 15.0)).boxes[0]
             for n, x in enumerate(xs)]  # fmt: skip
    return replace(a_finding(), boxes=tuple(boxes), slices=(3, 2 + len(xs)))


@pytest.mark.parametrize(
    ("score", "bits"),
    [(0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (0.25, 0.8113), (-0.1, 0.0), (1.1, 0.0)],
)
def test_entropy_in_bits(score, bits):
    assert entropy(score) == pytest.approx(bits, abs=1e-4)


@given(st.floats(0, 1))
def test_entropy_is_the_same_for_yes_and_no(score):
    assert entropy(score) == pytest.approx(entropy(1 - score), abs=1e-9)
    assert 0 <= entropy(score) <= 1


def test_a_finding_is_as_unsure_as_its_boxes():
    sure = a_finding(score=1.0)
    boxes = tuple(replace(box, score=0.5) for box in sure.boxes)

    assert finding_uncertainty(content_of(sure)) == 0.0
    assert finding_uncertainty(content_of(replace(sure, boxes=boxes))) == 1.0
    not_asked = tuple(replace(box, asked=False) for box in boxes)
    assert finding_uncertainty(content_of(replace(sure, boxes=not_asked))) == 0.0


def test_the_least_sure_finding_comes_first_in_the_reasons(a_store):
    report, _ = proposed(a_store, a_finding(score=0.99), a_finding("spleen", score=0.5))

    found = uncertainty(report)

    assert found.reasons[0] == "spleen: score 0.50 on slices 3 to 6"
    assert 0.5 < found.score < 1


def test_reviewed_findings_tell_nothing_any_more(a_store):
    _, (only,) = proposed(a_store, jumping(0, 20, 0))
    a_store.accept(only, by("ann", 1))

    report = a_store.report("d1")
    assert uncertainty(report) == disagreement(report) == CaseScore()


@pytest.mark.parametrize(
    ("finding", "share"),
    [
        pytest.param(jumping(4, 4, 4), 0.0, id="still"),
        pytest.param(jumping(0, 20, 0), 1.0, id="jumps"),
        pytest.param(jumping(0, 5), 1 - 1 / 3, id="half"),
        pytest.param(jumping(4), 0.0, id="one slice"),
    ],
)
def test_boxes_that_jump_disagree(finding, share):
    assert finding_disagreement(content_of(finding)) == pytest.approx(share)


def test_slices_without_a_box_in_between_disagree():
    whole = jumping(4, 4, 4, 4)
    with_hole = replace(whole, boxes=(whole.boxes[0], whole.boxes[3]))

    assert finding_disagreement(content_of(with_hole)) == pytest.approx(2 / 3)


def test_an_organ_in_pieces_disagrees(a_store):
    report, _ = proposed(a_store, a_finding(first=1, last=2), a_finding(first=8, last=9))

    found = disagreement(report)

    assert found == CaseScore(0.5, ("liver: found in 2 places along the slices",))


def test_an_organ_that_its_neighbours_promise_is_missed(a_store):
    report, _ = proposed(
        a_store, a_finding("liver"), a_finding("Kidney_Right"), absent=("spleen", "kidney_left")
    )

    found = missing_organs(report)

    assert found.reasons[0] == "kidney_left: not found, though right kidney is there"
    assert found.reasons[1].startswith("spleen: not found, though liver, right kidney are there")
    assert found.score == pytest.approx((0.9 + 0.5) / 2)


def test_an_absence_that_somebody_has_looked_at_is_closed(a_store):
    proposed(a_store, a_finding("liver"), absent=("spleen",))
    assert missing_organs(a_store.report("d1")).score > 0

    a_store.add_note("d1", "ann", "splenectomy in 2019")

    assert missing_organs(a_store.report("d1")) == CaseScore()


@pytest.mark.parametrize(
    ("found", "absent"),
    [
        pytest.param("brain stem", "spleen", id="another region"),
        pytest.param("skin lesion", "liver", id="no region"),
        pytest.param("kidney", "left kidney", id="found without its side"),
    ],
)
def test_an_organ_that_nothing_promises_is_not_missed(a_store, found, absent):
    report, _ = proposed(a_store, a_finding(found), absent=(absent,))

    assert missing_organs(report) == CaseScore()


def test_the_table_of_neighbours_is_in_natural_names():
    names = {name for organs in TOGETHER.values() for name in organs}

    assert {natural_name(name) for name in names} == names
    assert suspicion("unicorn", names, set()) == (0.0, "")


def test_a_case_is_as_telling_as_its_best_findings():
    many = [(0.1, f"rib {n}") for n in range(50)]

    assert scored([*many, (0.9, "a"), (0.8, "b"), (0.7, "c")]).score == pytest.approx(0.8)
    assert len(scored(many).reasons) == 5
    assert scored([]) == scored([(0.0, "nothing")]) == CaseScore()


@pytest.mark.parametrize("name", ["uncertainty", "disagreement", "missing-organ"])
def test_each_strategy_puts_its_case_first(a_store, name):
    proposed(a_store, a_finding(score=0.97), digest="calm")
    proposed(a_store, a_finding(score=0.5), digest="unsure")
    proposed(a_store, replace(jumping(0, 20, 0), score=0.97), digest="jumpy")
    proposed(a_store, a_finding(score=0.97), digest="incomplete", absent=("spleen",))
    best = {"uncertainty": "unsure", "disagreement": "jumpy", "missing-organ": "incomplete"}

    order = [case.summary.case.volume_digest for case in ranked(a_store, name)]

    assert order[0] == best[name]
    assert sorted(order) == ["calm", "incomplete", "jumpy", "unsure"]


def test_chance_reaches_every_case(a_store):
    for digest in ("a", "b", "c"):
        proposed(a_store, a_finding(), digest=digest)

    first = {ranked(a_store, "random")[0].summary.case.volume_digest for _ in range(100)}

    assert first == {"a", "b", "c"}


def test_a_case_without_anything_open_is_left_out(a_store):
    _, (liver,) = proposed(a_store, a_finding(), absent=("unicorn",))
    a_store.accept(liver, by("ann", 1))

    assert [ranked(a_store, name) for name in STRATEGIES] == [[]] * len(STRATEGIES)


def test_an_unknown_strategy_names_the_known(a_store):
    with pytest.raises(BadRequestError, match="uncertainty, disagreement, missing-organ, random"):
        ranked(a_store, "best")


def test_scores_are_finite_for_any_scores(a_store):
    report, _ = proposed(a_store, a_finding(score=0.0), a_finding("spleen", score=1.0))

    scores = [strategy.score for strategy in STRATEGIES.values() if strategy.score]
    assert all(math.isfinite(score(report).score) for score in scores)


def test_a_case_is_read_again_only_after_a_change(a_store, monkeypatch):
    _, (liver,) = proposed(a_store, a_finding(score=0.5))
    before = ranked(a_store, "uncertainty")
    reads = []
    report = a_store.report
    monkeypatch.setattr(a_store, "report", lambda *a, **k: reads.append(a) or report(*a, **k))

    assert ranked(a_store, "uncertainty") == before
    assert reads == []
    a_store.edit(liver, by("ann", 1), Edit(label="spleen"))
    a_store.reopen(liver, by("ann", 2))
    (after,) = ranked(a_store, "uncertainty")
    assert after.score.reasons[0].startswith("spleen")
