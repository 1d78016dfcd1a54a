"""Work on many items, as many at once as the memory allows.

Knows nothing about what the items are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)


def in_batches(count: int, size: int, work: Callable[[slice], None]) -> int:
    """Call `work` for one batch of 0..count after the other; how many fit at once in the end.

    Starts with `size` items at once; where the device's memory does not hold them, the batch is
    done again in halves, and so are those after it. Raises torch.OutOfMemoryError where a single
    item does not fit. `work` must be able to begin a batch anew.
    """
    size, first = max(1, size), 0
    while first < count:
        try:
            work(slice(first, min(first + size, count)))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = -(-min(size, count - first) // 2)
            logger.warning("out of memory: going on with %d at once", size)
            torch.cuda.empty_cache()
            continue
        first += size
    return size
