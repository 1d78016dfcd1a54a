"""Everything that can go wrong between Slicer and the server, each with words for the user.

`str(error)` says what happened, `error.hint` what to do next. Knows nothing about HTTP or MRML.
"""

from .i18n import tr as _


class BirdError(Exception):
    """What happened, in one line for the user, and what to do about it."""

    hint = ""
    code = ""  # the server's name for the failure, where it gave one
    told = {}  # noqa: RUF012 - all that the server said about it; replaced, never changed

    def __init__(self, message, hint=None):
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    @property
    def advice(self):
        """What happened and what to do, as one text for a status line."""
        return "{} {}".format(self, self.hint).strip()


class BadAddress(BirdError):
    """The text in the server field is no address."""

    hint = _("Write it as host:port, for example 127.0.0.1:8000.")


class ServerDown(BirdError):
    """Nothing answers at the address, or the answer broke off."""

    hint = _("Start the server with `bird serve`, or correct the address.")


class Refused(BirdError):
    """401: the server wants another token."""

    hint = _("Enter the token that the server was started with.")


class Forbidden(Refused):
    """403: the server knows the token, and it may not do this."""

    hint = _("Ask whoever runs the server for the token that may write.")


class NotFound(BirdError):
    """404: the server runs, but not this address or this volume."""

    hint = _("Check the address: a BiRD server answers under /bird/v1.")


class BadRequest(BirdError):
    """Any other 4xx: the server understood and declines."""

    hint = _("Change the question and ask again.")


class Conflict(BadRequest):
    """409: somebody else was faster."""

    hint = _("Look at what stands there now, and decide again.")


class ServerFault(BirdError):
    """5xx, or an answer that is not in the protocol."""

    hint = _("Nothing was changed here. See the server's log.")


class VersionMismatch(BirdError):
    """The server speaks another version of the protocol."""

    hint = _("Install the same BiRD release for Slicer and for the server.")


class Cancelled(BirdError):
    """The user stopped it."""

    hint = ""


class UnusableInput(BirdError):
    """The scene does not hold what the question needs; nothing was sent."""

    hint = _("Choose another volume or box.")
