"""Threads that compute are behind the one that talks to clients."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from bird_server.jobs.yielding import MOST_NICE, NICER, TURN_S, give_way, take_short_turns

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="niceness by thread")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@needs_linux
@pytest.mark.parametrize("steps", [0, NICER, 100])
def test_only_the_thread_that_gives_way_is_nicer(steps):
    before, told = niceness(), []

    def work():
        give_way(steps)
        told.append(niceness())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert told == [min(MOST_NICE, before + steps)]
    assert niceness() == before


def test_short_turns_are_shorter_than_pythons_own():
    before = sys.getswitchinterval()
    try:
        take_short_turns()
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
    finally:
        sys.setswitchinterval(before)
