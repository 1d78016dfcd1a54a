"""A lock that serves in the order of coming."""

from __future__ import annotations

import threading
import time

import pytest

from bird_server.fair_lock import FairLock


def test_one_at_a_time():
    lock, inside, most = FairLock(), [0], [0]

    def work() -> None:
        for _ in range(200):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1]


def test_whoever_asks_again_at_once_stands_behind_those_who_wait():
    lock, served = FairLock(), []

    def work(name: str) -> None:
        for _ in range(5):
            with lock:
                served.append(name)
                time.sleep(0.02)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    for thread in threads:
        thread.join(20)
    assert "".join(served) == "ababababab"


def test_an_error_inside_lets_go():
    lock = FairLock()
    with pytest.raises(ValueError, match="inside"), lock:
        raise ValueError("inside")
    with lock:
        pass
