"""Work on the GUI thread that is too long for one turn of its event loop.

Knows nothing about what the work is.
"""

import time

from .background import TURN_S
from .errors import BirdError


class Walk:
    """Runs through a generator, as far as a turn allows each time, from now on.

    `later(callback)` asks for another turn. One of `done(what it gave last)` and
    `failed(BirdError)` follows, unless it is stopped before.
    """

    def __init__(self, steps, done, failed, later):
        self._steps, self._done, self._failed, self._later = steps, done, failed, later
        self._last = None
        self._stopped = False

    def go_on(self):
        if self._stopped:
            return
        end = time.monotonic() + TURN_S
        try:
            while time.monotonic() < end:
                self._last = next(self._steps)
        except StopIteration:
            self._done(self._last)
        except BirdError as error:
            self._failed(error)
        else:
            self._later(self.go_on)

    def stop(self):
        """Ends the generator where it is; it may tidy up."""
        self._stopped = True
        self._steps.close()
