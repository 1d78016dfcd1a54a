"""Coarse to fine: the ends of an object are found from a third of the slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.contract import SliceBox, VolumeGeometry
from bird_vlm.linking import link_findings
from bird_vlm.search import CoarseToFine, Exhaustive, Search
from bird_vlm.slices import SliceStack, slice_stack

COUNT = 150  # slices of 1 mm


def an_ellipsoid(centre: float, half: float):
    """The boxes of an object on each slice, as a perfect model would tell them."""

    def boxes(index: int) -> tuple[tuple[int, int, int, int], ...]:
        inside = 1 - ((index - centre) / half) ** 2
        if inside <= 0:
            return ()
        reach = round(200 * inside**0.5)
        return ((500 - reach, 400 - reach, 500 + reach, 400 + reach),) if reach else ()

    return boxes


def walk(search: Search, *objects) -> list[dict[int, tuple]]:
    """Answers by slice for each question, as the search asked for them."""
    told: list[dict[int, tuple]] = [{} for _ in objects]
    for asked in search.rounds():
        for question, indices in asked.items():
            for index in indices:
                assert index not in told[question]
                told[question][index] = objects[question](index)
                search.tell(question, index, told[question][index])
    return told


@pytest.fixture
def a_stack() -> SliceStack:
    matrix = tuple(map(tuple, np.eye(4).tolist()))
    return slice_stack(VolumeGeometry((1000, 1000, COUNT), matrix), "axial")


def findings(told: dict[int, tuple], stack: SliceStack):
    boxes = [
        SliceBox(index, 1.0, tuple(map(float, box)), stack.corners_ras(index, box))
        for index, found in told.items()
        for box in found
    ]
    return link_findings("it", boxes, stack, told)


def overlap_of_rois(first, second) -> float:
    low, high = (
        [np.array(f.roi.center_ras) + sign * np.array(f.roi.size_mm) / 2 for f in (first, second)]
        for sign in (-1, 1)
    )
    shared = np.clip(np.minimum(*high) - np.maximum(*low), 0, None).prod()
    return shared / (np.prod(first.roi.size_mm) + np.prod(second.roi.size_mm) - shared)


@given(st.integers(0, COUNT), st.integers(10, 60))
def test_the_ends_of_an_object_are_found(centre, half):
    it = an_ellipsoid(centre, half)
    [told] = walk(CoarseToFine(range(COUNT), 1, spacing_mm=1.0), it)
    shown = [index for index in range(COUNT) if it(index)]
    found = [index for index, boxes in told.items() if boxes]
    assert (min(found), max(found)) == (min(shown), max(shown))
    assert len(told) <= COUNT / 3


@pytest.mark.parametrize("half", [15, 30, 50])
def test_findings_are_those_of_all_slices(a_stack, half):
    it = an_ellipsoid(70, half)
    [coarse] = walk(CoarseToFine(range(COUNT), 1, spacing_mm=1.0), it)
    [every] = walk(Exhaustive(range(COUNT), 1), it)
    [ours], [theirs] = findings(coarse, a_stack), findings(every, a_stack)
    assert ours.slices == theirs.slices
    assert [box.slice for box in ours.boxes] == [box.slice for box in theirs.boxes]
    assert sum(box.asked for box in ours.boxes) == sum(bool(boxes) for boxes in coarse.values())
    assert overlap_of_rois(ours, theirs) >= 0.95


def test_two_objects_apart_stay_two(a_stack):
    """Where a slice between them was asked and shows neither."""

    def boxes(index: int) -> tuple[tuple[int, int, int, int], ...]:
        return ((100, 100, 200, 200),) if 40 <= index < 60 or 72 <= index < 100 else ()

    for search in (CoarseToFine(range(COUNT), 1, spacing_mm=1.0), Exhaustive(range(COUNT), 1)):
        [told] = walk(search, boxes)
        assert {finding.slices for finding in findings(told, a_stack)} == {(40, 59), (72, 99)}


def test_the_whole_budget_goes_to_the_object():
    [told] = walk(CoarseToFine(range(COUNT), 1, spacing_mm=1.0), an_ellipsoid(70, 60))
    assert len(told) == COUNT // 3


@pytest.mark.parametrize("apex", [40, 66, 97])
def test_the_slice_where_a_long_object_is_widest_is_asked(apex):
    def boxes(index: int) -> tuple[tuple[int, int, int, int], ...]:
        return ((100, 100, 500 - 3 * abs(index - apex), 200),) if 20 <= index < 130 else ()

    [told] = walk(CoarseToFine(range(COUNT), 1, spacing_mm=1.0), boxes)
    assert apex in told


def test_each_question_has_its_own_way():
    first, second = an_ellipsoid(40, 20), an_ellipsoid(110, 20)
    told = walk(CoarseToFine(range(COUNT), 2, spacing_mm=1.0), first, second)
    coarse = set(told[0]) & set(told[1])
    assert len(coarse) == len(range(0, COUNT, 9))
    assert set(told[0]) - coarse
    assert set(told[1]) - coarse


def test_what_is_absent_costs_the_first_round_alone():
    [told] = walk(CoarseToFine(range(COUNT), 1, spacing_mm=1.0), lambda index: ())
    assert len(told) <= COUNT / 9 + 1


def test_the_slice_in_view_comes_first():
    near = sorted(range(COUNT), key=lambda index: abs(index - 80))
    asked = next(iter(CoarseToFine(near, 1, spacing_mm=1.0).rounds()))
    assert abs(asked[0][0] - 80) <= 5
    assert [abs(index - 80) for index in asked[0]] == sorted(abs(i - 80) for i in asked[0])


def test_thick_slices_are_all_asked():
    asked = next(iter(CoarseToFine(range(30), 1, spacing_mm=8.0).rounds()))
    assert sorted(asked[0]) == list(range(30))


def test_a_part_of_a_stack_stays_a_part():
    [told] = walk(CoarseToFine(range(60, 100), 1, spacing_mm=1.0), an_ellipsoid(70, 50))
    assert min(told) >= 60
    assert max(told) < 100
