"""Work in batches goes on in smaller ones where the memory does not hold them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.batches import in_batches


def done_with_room_for(room: int, count: int, size: int) -> tuple[list[int], int]:
    """Items in the order in which they were worked on, and how many fitted at once."""
    done: list[int] = []

    def work(batch: slice) -> None:
        items = range(count)[batch]
        if len(items) > room:
            raise torch.OutOfMemoryError(f"no room for {len(items)}")
        done.extend(items)

    return done, in_batches(count, size, work)


@given(st.integers(1, 40), st.integers(0, 60), st.integers(1, 50))
def test_every_item_is_worked_on_once_and_in_order(room, count, size):
    done, fitted = done_with_room_for(room, count, size)
    assert done == list(range(count))
    assert fitted <= size
    assert fitted <= room or count <= room


def test_batches_stay_as_small_as_they_had_to_become():
    sizes = []

    def work(batch: slice) -> None:
        sizes.append(batch.stop - batch.start)
        if sizes[-1] > 5:
            raise torch.OutOfMemoryError

    assert in_batches(20, 16, work) == 4
    assert sizes == [16, 8, 4, 4, 4, 4, 4]


def test_one_item_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError, match="no room for 1"):
        done_with_room_for(0, 3, 2)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def work(batch: slice) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        in_batches(3, 2, work)
