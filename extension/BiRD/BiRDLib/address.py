"""Where the server is: the text a user types, taken apart, and the way through a proxy.

Knows nothing about BiRD's protocol.
"""

import http.client
import ipaddress
import urllib.request
from urllib.parse import urlsplit

from .errors import BadAddress
from .i18n import tr as _

DEFAULT_PORT = 8000  # of `bird serve`


class Address:
    """A server's address.

    >>> Address("127.0.0.1:8000").url, Address("https://bird.example.org/x/").url
    ('http://127.0.0.1:8000', 'https://bird.example.org:443/x')
    >>> Address("localhost").is_loopback, Address("bird.example.org").is_loopback
    (True, False)
    """

    def __init__(self, text):
        """Reads `text`, with or without http://; raises BadAddress."""
        text = text.strip()
        named_scheme = "://" in text
        try:
            parts = urlsplit(text if named_scheme else "http://" + text)
            port = parts.port
        except ValueError as error:
            raise BadAddress(_("{!r} is no server address ({}).").format(text, error)) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or " " in text:
            raise BadAddress(_("{!r} is no server address.").format(text))
        if parts.username or parts.password:
            raise BadAddress(_("The address holds a password."), _("Use the token field instead."))
        self.scheme = parts.scheme
        self.host = parts.hostname
        self.port = port or (_scheme_port(parts.scheme) if named_scheme else DEFAULT_PORT)
        self.path = parts.path.rstrip("/")

    @property
    def url(self):
        """The complete address without a slash at its end."""
        host = "[{}]".format(self.host) if ":" in self.host else self.host
        return "{}://{}:{}{}".format(self.scheme, host, self.port, self.path)

    @property
    def is_loopback(self):
        """True where nothing leaves this computer."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")

    def connect(self, timeout_s):
        """(connection, request prefix): an unopened http.client connection and what comes before
        each request's path."""
        direct = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        proxy = self._proxy()
        if proxy is None:
            return direct[self.scheme](self.host, self.port, timeout=timeout_s), self.path
        connection = direct[self.scheme](proxy.host, proxy.port, timeout=timeout_s)
        if self.scheme == "http":
            return connection, self.url
        connection.set_tunnel(self.host, self.port)
        return connection, self.path

    def _proxy(self):
        if self.is_loopback or urllib.request.proxy_bypass(self.host):
            return None
        text = urllib.request.getproxies().get(self.scheme)
        return Address(text) if text else None


def _scheme_port(scheme):
    return 443 if scheme == "https" else 80
