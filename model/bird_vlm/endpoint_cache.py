"""Answers of a language model on disk, by the whole request that they answer.

Several processes may share a folder. Knows nothing about HTTP, and nothing of the key.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bird_vlm.errors import BirdError

if TYPE_CHECKING:
    from diskcache import Cache


def open_cache(folder: Path | None, opened: ExitStack) -> Cache | None:
    """The cache in `folder`, closed with `opened`. Raises BirdError where it cannot be one."""
    if folder is None:
        return None
    from diskcache import Cache, JSONDisk

    try:
        # JSON, as unpickling runs what it finds; no eviction, as every answer was paid for
        cache = Cache(str(folder), disk=JSONDisk, eviction_policy="none")
    except (OSError, sqlite3.Error) as error:
        raise BirdError(f"cache: {folder} cannot be used ({error}); name another folder") from error
    return opened.enter_context(cache)


def cache_key(base_url: str, body: dict[str, Any]) -> str:
    """A digest: the question itself is not stored."""
    whole = json.dumps([base_url, body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(whole.encode()).hexdigest()
