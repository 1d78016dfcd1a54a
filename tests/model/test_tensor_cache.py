"""Features are kept within their budget, the least recently used leave first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.tensor_cache import TensorCache

ONE = 16  # bytes of what a slice takes here


def of_slice(*numbers: int) -> torch.Tensor:
    """(slices, 4) float32, told apart by their values."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None].repeat(1, 4)


def test_what_was_put_comes_back():
    cache = TensorCache(10 * ONE)
    cache.put(["a", "b"], of_slice(1, 2))
    a, c, b = cache.get(["a", "c", "b"])
    assert c is None
    assert torch.equal(torch.stack([a, b]), of_slice(1, 2))
    use = cache.use()
    assert (use.hits, use.misses, use.entries) == (2, 1, 2)
    assert use.hit_rate == pytest.approx(2 / 3)


def test_the_least_recently_used_leave_first():
    cache = TensorCache(2 * ONE)
    cache.put(["a", "b"], of_slice(1, 2))
    cache.get(["a"])
    cache.put(["c"], of_slice(3))
    assert [kept is not None for kept in cache.get(["a", "b", "c"])] == [True, False, True]


def test_a_slice_does_not_keep_its_whole_batch_alive():
    cache = TensorCache(10 * ONE)
    cache.put(range(8), of_slice(*range(8)))
    [kept] = cache.get([3])
    assert kept.untyped_storage().nbytes() == ONE


@pytest.mark.parametrize("budget", [0, ONE - 1])
def test_what_is_larger_than_the_budget_is_not_kept(budget):
    cache = TensorCache(budget)
    cache.put(["a"], of_slice(1))
    assert cache.get(["a"]) == [None]
    assert cache.use().host_bytes == 0


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 6))
def test_the_budget_holds_and_values_stay_with_their_keys(keys, entries):
    cache = TensorCache(entries * ONE)
    for key in keys:
        [kept] = cache.get([key])
        if kept is None:
            cache.put([key], of_slice(key))
        else:
            assert torch.equal(kept, of_slice(key)[0])
        use = cache.use()
        assert use.host_bytes == use.entries * ONE <= entries * ONE


def test_threads_do_not_disturb_each_other():
    cache = TensorCache(20 * ONE)

    def work(seed: int) -> bool:
        numbers = torch.randint(0, 40, (300,), generator=torch.Generator().manual_seed(seed))
        for key in numbers.tolist():
            [kept] = cache.get([key])
            if kept is None:
                cache.put([key], of_slice(key))
            elif not torch.equal(kept, of_slice(key)[0]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    use = cache.use()
    assert use.hits + use.misses == 8 * 300
    assert use.host_bytes <= 20 * ONE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_full_device_spills_to_the_host():
    cache = TensorCache(8 * ONE)
    cache.put(range(4), of_slice(*range(4)).cuda())
    kept = cache.get(range(4))
    assert [tensor.device.type for tensor in kept] == ["cpu", "cpu", "cuda", "cuda"]
    assert torch.equal(torch.stack([tensor.cpu() for tensor in kept]), of_slice(*range(4)))
