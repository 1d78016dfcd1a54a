"""One piece of work in flight: runs on a worker, reports on the GUI thread, can be cancelled.

Knows nothing about what the work is.
"""

import logging
import threading

from .errors import BirdError, Cancelled
from .i18n import tr as _


class Job:
    """Runs `work(job)` on `background` and calls `done(answer)` or `failed(BirdError)` once.

    Both are called on the GUI thread, never after `abandon()`. `over()` is called before them.
    """

    def __init__(self, background, work, done, failed, over):
        self._background = background
        self._work = work
        self._done = done
        self._failed = failed
        self._over = over
        self._cancelled = threading.Event()
        self._abandoned = False

    def start(self):
        self._background.start(self._run)

    def cancel(self):
        """Asks the work to stop; `failed(Cancelled)` follows."""
        self._cancelled.set()

    def cancelled(self):
        return self._cancelled.is_set()

    def abandon(self):
        """Cancels, and reports nothing any more."""
        self._abandoned = True
        self.cancel()

    def report(self, callback, *arguments):
        """Calls `callback(*arguments)` on the GUI thread, unless the user has cancelled by then."""
        self._background.post(lambda: None if self.cancelled() else callback(*arguments))

    def _run(self):
        try:
            answer = self._work(self)
            finish = self._done
        except BirdError as error:
            answer, finish = error, self._failed
        except Exception as error:
            logging.exception("BiRD: unexpected error")
            answer = BirdError(_("Unexpected: {!r}.").format(error), _("See the log."))
            finish = self._failed
        self._background.post(lambda: self._finish(finish, answer))

    def _finish(self, finish, answer):
        if self._abandoned:
            return
        self._over()
        if self.cancelled():
            self._failed(Cancelled("Cancelled."))
            return
        try:
            finish(answer)
        except BirdError as error:
            self._failed(error)
