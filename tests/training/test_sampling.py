"""Which pictures are taken: slices far apart, modalities and objects evenly, by names alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.building.sampling import draw, rarest, share_out, spread, stack_of, thin

COUNTS = st.dictionaries(
    st.tuples(st.sampled_from(["ct", "mr", "pet", "x"]), st.sampled_from(list("abcdef"))),
    st.integers(1, 300),
    min_size=1,
)


@pytest.mark.parametrize(
    ("picture", "stack"),
    [
        ("mr_cmr--ACDC--p01--z_0568", ("mr_cmr--ACDC--p01--z", 568)),
        ("ct_00--vol--ct-trunk--axial_0012", ("ct_00--vol--ct-trunk--axial", 12)),
        ("ct_00--AMOS--amos_0006--slice_0090", ("ct_00--AMOS--amos_0006--slice", 90)),
        ("ct--A--p--z_123456789", ("ct--A--p--z", 123456789)),
        (f"ct--A--p--z_{10**22}", (f"ct--A--p--z_{10**22}", 0)),  # no number that SQLite holds
        ("fundus_photography--DRIVE--21--2d_0003", ("fundus_photography--DRIVE--21--2d_0003", 0)),
    ],
)
def test_only_slices_have_neighbours(picture, stack):
    assert stack_of(picture) == stack


@given(st.integers(1, 200))
def test_ranks_of_a_stack_are_a_permutation_whose_beginnings_are_spread(count):
    ranks = spread(count)
    assert sorted(ranks) == list(range(count))
    for taken in (2, 4, 8):
        if taken < count / 2:
            places = sorted(ranks.index(rank) for rank in range(taken))
            gaps = [b - a for a, b in pairwise(places)]
            assert min(gaps) >= count / (4 * taken)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=60, unique=True), st.integers(1, 12))
def test_thinning_keeps_one_of_each_run_of_neighbours(positions, step):
    positions = sorted(positions)
    shown = [draw(str(p)) % 4 for p in positions]
    kept = [p for p, keep in zip(positions, thin(positions, shown, step), strict=True) if keep]
    blocks = [(p - positions[0]) // step for p in positions]
    assert len(kept) == len(set(blocks))
    for p in kept:
        block = (p - positions[0]) // step
        rivals = [s for s, b in zip(shown, blocks, strict=True) if b == block]
        assert shown[positions.index(p)] == max(rivals)


@given(COUNTS, st.integers(0, 2000))
def test_places_are_all_given_and_as_even_as_can_be(available, limit):
    places = share_out(available, limit)
    assert sum(places.values()) == min(limit, sum(available.values()))
    assert all(0 <= places[key] <= available[key] for key in available)
    totals, most = Counter(), Counter()
    for (modality, _), count in places.items():
        totals[modality] += count
    for (modality, _), count in available.items():
        most[modality] += count
    hungry = [m for m in most if totals[m] < most[m]]
    if hungry:  # who wants more is at most one place behind anybody
        assert min(totals[m] for m in hungry) >= max(totals.values()) - 1


@given(COUNTS, st.integers(0, 500))
def test_the_order_of_what_is_there_does_not_matter(available, limit):
    assert share_out(available, limit) == share_out(dict(reversed(available.items())), limit)


def test_a_picture_counts_for_its_rarest_object():
    counts = {"liver": 90, "spleen": 40, "adrenal": 3}
    assert rarest(["liver", "adrenal", "spleen"], counts) == "adrenal"
    assert rarest([], counts) == ""
