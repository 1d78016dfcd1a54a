"""The end of the server, told to its jobs in time.

A web server that is told to end waits for open streams first, and streams of jobs may last for
hours: so whoever listens to SIGTERM and SIGINT tells the jobs before, and their streams end.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_before_the_end(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` in a thread of its own at a signal to end, and then whoever heard it before.

    Needs a running event loop. Signals reach the main thread only; in any other this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def begin() -> None:
        threading.Thread(target=stop, name="stopping the jobs").start()

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin)  # a handler must not wait for locks
        heard = before[number]
        if callable(heard):
            heard(number, frame)

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, heard in before.items():
            signal.signal(number, heard)
