"""What an HTTP status or a broken connection means, as an error with words for the user.

Knows nothing about requests; the server's own words are kept where it has some.
"""

import http.client
import socket
import ssl

from .errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    ServerDown,
    ServerFault,
)
from .fields import json_object
from .i18n import tr as _

_KINDS = {401: Refused, 403: Forbidden, 404: NotFound, 409: Conflict}
_GATEWAY = (502, 504)
_MOST_BYTES = 1 << 20  # of a failure's answer


def refusal(address, response):
    """The typed error for an http.client.HTTPResponse that is not 2xx."""
    status = response.status
    if 300 <= status < 400:
        there = response.getheader("Location") or _("another address")
        where = _("The server at {} points to {}.").format(address.url, there)
        return NotFound(where, _("Enter that address."))
    if status in _GATEWAY:
        words = _("The web server at {} cannot reach the BiRD server behind it ({}).")
        return ServerDown(words.format(address.url, status), _("Ask whoever runs it."))
    kind = _KINDS.get(status, BadRequest if 400 <= status < 500 else ServerFault)
    return told_error(kind, _told(response), _words(status).format(address.url, status))


def told_error(kind, told, otherwise):
    """`kind` in the server's words where they are in the protocol, else in ours."""
    code, message, hint = (told.get(name) for name in ("error", "detail", "hint"))
    if not isinstance(code, str) or not isinstance(message, str):
        return kind(otherwise)
    error = kind(message, hint if isinstance(hint, str) and hint else None)
    error.code, error.told = code, told
    return error


def unreachable(address, error):
    """The typed error for an OSError or an HTTPException of a connection."""
    if isinstance(error, socket.timeout):
        return ServerDown(
            _("The server at {} does not answer in time.").format(address.url),
            _("Wait until it has loaded its model, or look at its log."),
        )
    if isinstance(error, socket.gaierror):
        return ServerDown(
            _("No computer is called {!r}.").format(address.host), _("Correct the server's name.")
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return ServerDown(
            _("The certificate of {} is not trusted ({}).").format(
                address.host, error.verify_message
            ),
            _("Use the name that stands in it, or have it signed by a known authority."),
        )
    if isinstance(error, ssl.SSLError):
        return ServerDown(
            _("What answers at {} does not speak https.").format(address.url), _("Try http://.")
        )
    if isinstance(error, ConnectionRefusedError):
        return ServerDown(_("No server runs at {}.").format(address.url))
    if isinstance(error, (http.client.IncompleteRead, ConnectionError)):
        return ServerDown(_("The connection to {} broke off.").format(address.url), _("Ask again."))
    if isinstance(error, http.client.HTTPException):
        return ServerDown(_("What answers at {} is no web server.").format(address.url))
    return ServerDown(_("Cannot reach {}: {}.").format(address.url, error))


def _told(response):
    try:
        return json_object(response.read(_MOST_BYTES))
    except ServerFault:  # a proxy's page, say
        return {}


def _words(status):
    """What to say where the server says nothing of use."""
    if status == 401:
        return _("The server at {} does not take this token ({}).")
    if status == 403:
        return _("The server at {} knows you, but does not allow this ({}).")
    if status == 404:
        return _("The server at {} runs but knows no BiRD there ({}).")
    if status == 409:
        return _("The server at {} has something newer ({}).")
    if status < 500:
        return _("The server at {} declines ({}).")
    return _("The server at {} failed ({}).")
