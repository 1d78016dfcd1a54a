"""Threads that work on answers give way to the one that talks to clients.

Knows nothing about jobs.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

NICER = 5  # steps of Linux' niceness that a worker is behind the rest of the server
MOST_NICE = 19
TURN_S = 0.001  # after which a thread that computes in Python lets another one go on


def give_way(steps: int = NICER) -> None:
    """This thread, and those that it starts, get the processor after others.

    On Linux, where each thread has a niceness; elsewhere that of the process would change.
    """
    if not sys.platform.startswith("linux"):
        return
    thread = threading.get_native_id()
    niceness = os.getpriority(os.PRIO_PROCESS, thread) + steps
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, thread, min(MOST_NICE, niceness))


def take_short_turns() -> None:
    """For a process that must answer quickly while its threads compute.

    Each time that the event loop comes back from a socket it waits for such a turn to end.
    """
    sys.setswitchinterval(TURN_S)
