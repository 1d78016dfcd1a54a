"""One server and one question in flight: connect, ask off the GUI thread, cancel.

Everything here runs on the GUI thread, except the `work` handed to `start`. Knows nothing about
what is asked.
"""

import time
from functools import partial

from . import scene as geometry
from .client import Client
from .errors import BirdError, Cancelled, UnusableInput
from .i18n import tr as _
from .job import Job
from .uploads import Uploads
from .walk import Walk


def require(possible, reason):
    """Raises UnusableInput unless possible: what a button's tooltip says is also the error."""
    if not possible:
        raise UnusableInput(reason, "")


class Session:
    """At most one server, at most one question at a time.

    `background` has `start(work)` and `post(callback)`; `make_client(url, token)` returns a
    client.Client. Callbacks come on the GUI thread.
    """

    def __init__(self, background, make_client=Client):
        self.health = None  # answers.Health of the connected server
        self.client = None  # of the connected server
        self.allowed_hosts = set()  # other computers that the user lets images go to
        self.background = background
        self.uploads = Uploads()
        self._make_client = make_client
        self._job = None
        self._walk = None  # storing an answer
        self._cancelled = None  # for a walk that is cancelled

    @property
    def busy(self):
        return self._job is not None or self._walk is not None

    def cancel(self):
        """Stops the question in flight; its `on_error` gets a Cancelled."""
        if self._job is not None:
            self._job.cancel()
        elif self._walk is not None:
            self._end_walk(stop=True)
            self._cancelled(Cancelled(_("Cancelled.")))

    def abandon(self):
        """Stops the question in flight without a word, for a scene that closes."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._end_walk(stop=True)

    def disconnect(self):
        self.abandon()
        self.health = self.client = None

    def connect(self, url, token, on_done, on_error):
        """Says hello to a server; `on_done(answers.Health)`."""
        self.disconnect()
        try:
            client = self._make_client(url, token)
        except BirdError as error:
            on_error(error)
            return

        def connected(health):
            self.health, self.client = health, client
            on_done(health)

        self.start(lambda job: client.health(), connected, on_error)

    def test(self, url, token, on_done, on_error):
        """Tries a server out and stays with the one in use; `on_done(answers.Health, seconds)`."""
        try:
            client = self._make_client(url, token)
        except BirdError as error:
            on_error(error)
            return

        def work(job):
            started = time.monotonic()
            return client.health(), time.monotonic() - started

        self.start(work, lambda answer: on_done(*answer), on_error)

    @property
    def remote_host(self):
        """The connected server's computer where that is another one, else None."""
        if self.client is None or self.client.address.is_loopback:
            return None
        return self.client.address.host

    @property
    def allow_remote(self):
        """Whether the user lets images go to the connected server's computer."""
        return self.remote_host in self.allowed_hosts

    @allow_remote.setter
    def allow_remote(self, allowed):
        if self.remote_host is not None:
            change = self.allowed_hosts.add if allowed else self.allowed_hosts.discard
            change(self.remote_host)

    def can_reach(self):
        """(yes, why not) for what needs a server and sends no image."""
        if self.client is None or self.health is None:
            return False, _("Connect to a server first.")
        return True, ""

    def can_send(self, volume):
        """(yes, why not) for what sends a volume to the server."""
        possible, reason = self.can_reach()
        if not possible:
            return False, reason
        if self.remote_host is not None and not self.allow_remote:
            return False, _("{} is another computer: allow images to leave this one.").format(
                self.remote_host
            )
        try:
            geometry.requireUsableVolume(volume)
        except UnusableInput as error:
            return False, error.advice
        return True, ""

    def can_ask(self, volume):
        """(yes, why not) for a question about a volume."""
        if self.can_reach()[0] and self.busy:
            return False, _("Wait for the answer, or cancel it.")
        return self.can_send(volume)

    def start(self, work, done, failed):
        """Runs `work(job)` on a worker, then `done(answer)` or `failed(BirdError)`."""
        if self._job is not None:
            failed(BirdError(_("Wait for the answer, or cancel it.")))
            return
        self._job = Job(self.background, work, done, failed, self._over)
        self._job.start()

    def walk(self, steps, done, failed):
        """Runs through a generator in turns (walk.py); busy until its end."""

        def ended(follow, answer):
            self._end_walk()
            follow(answer)

        self._cancelled = failed
        self._walk = Walk(steps, partial(ended, done), partial(ended, failed),
                          self.background.later)  # fmt: skip
        self._walk.go_on()

    def _end_walk(self, stop=False):
        walk, self._walk = self._walk, None
        if stop and walk is not None:
            walk.stop()

    def _over(self):
        self._job = None
