"""What was made of slices before, kept within budgets of bytes.

The least recently used go first: from a device's memory to the host's, and from there away. Knows
nothing about volumes, models or what a key means.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import torch

DEFAULT_BUDGET = 1 << 30  # bytes
_DEVICE_SHARE = 0.25  # of the budget, on a device that has its own memory

Entry = tuple[Hashable, torch.Tensor]


@dataclass(frozen=True)
class CacheUse:
    """How a cache was used so far."""

    hits: int
    misses: int
    entries: int
    host_bytes: int
    device_bytes: int

    @property
    def hit_rate(self) -> float:
        """0..1; 0 before the first question."""
        return self.hits / max(1, self.hits + self.misses)


class TensorCache:
    """Tensors by key. Any number of threads may use it."""

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        """`budget` is in bytes; 0 keeps nothing."""
        self._host, self._device = _Shelf(budget), _Shelf(int(_DEVICE_SHARE * budget))
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def get(self, keys: Sequence[Hashable]) -> list[torch.Tensor | None]:
        """What is kept under each key; None where nothing is."""
        with self._lock:
            found = [self._shelf_of(key).touch(key) for key in keys]
            self._hits += sum(kept is not None for kept in found)
            self._misses += sum(kept is None for kept in found)
        return found

    def put(self, keys: Sequence[Hashable], tensors: Iterable[torch.Tensor]) -> None:
        """Keep a tensor under each key."""
        with self._lock:
            for key, kept in zip(keys, tensors, strict=True):
                shelf = self._host if kept.device.type == "cpu" else self._device
                for old, spilled in shelf.add(key, kept.clone()):  # not a view of the whole batch
                    if shelf is self._device:
                        self._host.add(old, spilled.cpu())

    def use(self) -> CacheUse:
        with self._lock:
            entries = len(self._host.kept) + len(self._device.kept)
            return CacheUse(self._hits, self._misses, entries, self._host.bytes, self._device.bytes)

    def _shelf_of(self, key: Hashable) -> _Shelf:
        return self._device if key in self._device.kept else self._host


class _Shelf:
    """Tensors in the order of their last use, within a budget."""

    def __init__(self, budget: int) -> None:
        self.budget, self.bytes = budget, 0
        self.kept: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def touch(self, key: Hashable) -> torch.Tensor | None:
        if key not in self.kept:
            return None
        self.kept.move_to_end(key)
        return self.kept[key]

    def add(self, key: Hashable, tensor: torch.Tensor) -> list[Entry]:
        """Keep a tensor; what had to go for it, the oldest first."""
        if key in self.kept:
            self.bytes -= self.kept.pop(key).nbytes
        self.kept[key] = tensor
        self.bytes += tensor.nbytes
        gone = []
        while self.bytes > self.budget:
            gone.append(self.kept.popitem(last=False))
            self.bytes -= gone[-1][1].nbytes
        return gone
