"""Work off the GUI thread, its results on it. Knows nothing about the work, nor about Qt.

The owner calls `pump()` on the GUI thread again and again, from a timer. Each call waits a moment
for results: Slicer holds Python's lock while its event loop is in C++, so this wait is also what
lets the worker run.
"""

import logging
import queue
import threading
import time

TURN_S = 0.02  # of the GUI thread at a time


class Background:
    """Starts work on threads and keeps what they want done on the GUI thread."""

    def __init__(self):
        self._wanted = queue.Queue()
        self.wake = _nothing  # the owner's: called where `pump` may have gone to sleep

    def start(self, work):
        """Runs `work()` on a thread of its own. It reports through `post`."""
        threading.Thread(target=work, name="BiRD worker", daemon=True).start()

    def post(self, callback):
        """Asks for `callback()` on the GUI thread. Called from any thread."""
        self._wanted.put(callback)

    def pump(self, wait_s=0.005):
        """Runs what was posted; waits up to `wait_s` for the first. On the GUI thread.

        What does not fit into `TURN_S` waits for the next call: the user comes first.
        """
        try:
            first = self._wanted.get(timeout=wait_s)
            end = time.monotonic() + TURN_S
            _run(first)
            while time.monotonic() < end:
                _run(self._wanted.get_nowait())
        except queue.Empty:
            return

    def later(self, callback):
        """Asks for `callback()` in a later turn. Called on the GUI thread."""
        self.post(callback)
        self.wake()

    @property
    def waiting(self):
        """Whether something posted has not run yet."""
        return not self._wanted.empty()


def _nothing():
    """For owners that pump all the time."""


def _run(callback):
    """One failing callback must not keep the others from the user."""
    try:
        callback()
    except Exception:
        logging.exception("BiRD: showing a result failed")
