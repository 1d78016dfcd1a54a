"""The split by case: nobody is on both sides, and the choice is the same everywhere."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.splits import split_by_case
from small_world import a_record

CASES = st.lists(
    st.tuples(
        st.sampled_from(["BTCV", "ACDC", "BUSI"]),
        st.integers(0, 12).map("p{:02d}".format),
        st.sampled_from(["ct", "mr", "pet"]),
    ),
    max_size=40,
)
FRACTIONS = st.floats(0.01, 0.9)


def the_records(cases):
    return [a_record(dataset=d, case=c, modality=m) for d, c, m in cases]


def cases_of(records):
    return {(r.dataset, r.case) for r in records}


@given(CASES, FRACTIONS)
def test_every_picture_is_on_one_side_and_every_case_too(cases, fraction):
    records = the_records(cases)
    train, test = split_by_case(records, fraction)
    assert Counter(train) + Counter(test) == Counter(records)
    assert not cases_of(train) & cases_of(test)


@given(CASES, FRACTIONS)
def test_every_data_set_has_its_share_of_cases_and_at_least_one_on_each_side(cases, fraction):
    records = the_records(cases)
    _, test = split_by_case(records, fraction)
    for dataset in {r.dataset for r in records}:
        every = sum(d == dataset for d, _ in cases_of(records))
        held_out = sum(d == dataset for d, _ in cases_of(test))
        assert abs(held_out - fraction * every) <= 0.5 or held_out in (1, every - 1)
        assert (1 <= held_out < every) if every > 1 else held_out == 0


@given(CASES, FRACTIONS, st.data())
def test_twins_are_never_parted(cases, fraction, data):
    records = the_records(cases)
    pairs = st.tuples(*[st.sampled_from(records)] * 2) if records else st.nothing()
    twins = data.draw(st.lists(pairs))
    train, test = split_by_case(records, fraction, twins)
    assert Counter(train) + Counter(test) == Counter(records)
    assert not cases_of(train) & cases_of(test)
    side = dict.fromkeys(cases_of(train), "train") | dict.fromkeys(cases_of(test), "test")
    for first, second in twins:
        assert side[first.dataset, first.case] == side[second.dataset, second.case]


def test_twins_of_two_data_sets_leave_the_choice_of_all_others_as_it_is():
    records = the_records([(d, f"p{n:02d}", "ct") for d in ("ACDC", "BTCV") for n in range(20)])
    _, before = split_by_case(records, 0.3)
    held_out = next(r for r in before if r.dataset == "ACDC")
    stays = next(r for r in records if r.dataset == "BTCV" and r not in before)
    _, after = split_by_case(records, 0.3, [(held_out, stays)])
    assert {held_out.case, stays.case} <= {r.case for r in after}
    assert stays in after  # it follows the first data set's
    assert [r for r in after if r is not stays] == before


def test_a_twin_that_is_not_among_the_pictures_does_not_matter():
    records = the_records([("BTCV", f"p{n}", "ct") for n in range(6)])
    stranger = a_record(dataset="BTCV", case="elsewhere")
    assert split_by_case(records, 0.3, [(records[0], stranger)]) == split_by_case(records, 0.3)


@given(CASES, FRACTIONS, st.randoms())
def test_the_order_of_the_pictures_does_not_matter(cases, fraction, rng: random.Random):
    records = the_records(cases)
    shuffled = rng.sample(records, len(records))
    for side, again in zip(
        split_by_case(records, fraction), split_by_case(shuffled, fraction), strict=True
    ):
        assert Counter(side) == Counter(again)


def test_sides_keep_the_order_of_the_pictures(many_records):
    for side in split_by_case(many_records, 0.3):
        assert side == [record for record in many_records if record in side]


def test_a_case_of_several_modalities_falls_on_one_side():
    records = [
        a_record(dataset="STS", case=f"p{case}", modality=modality)
        for case in range(20)
        for modality in ("ct", "mr", "pet")
    ]
    train, test = split_by_case(records, 0.15)
    assert (len(train), len(test)) == (17 * 3, 3 * 3)
    assert set(Counter(r.case for r in test).values()) == {3}


def test_another_name_of_the_data_set_draws_other_cases():
    held_out = []
    for dataset in ("ACDC", "BTCV"):
        _, test = split_by_case([a_record(dataset=dataset, case=str(n)) for n in range(40)], 0.3)
        held_out.append({record.case for record in test})
    assert len(held_out[0]) == len(held_out[1]) == 12
    assert held_out[0] != held_out[1]


@pytest.mark.shared
def test_the_real_pictures_split_by_case(real_records):
    train, test = split_by_case(real_records, 0.15)
    assert len(train) + len(test) == 4621
    assert not cases_of(train) & cases_of(test)
    cases = Counter(d for d, _ in cases_of(real_records))
    held_out = Counter(d for d, _ in cases_of(test))
    assert held_out == {name: round(0.15 * count) for name, count in cases.items()}
    assert {r.modality for r in test} == {r.modality for r in train}
