"""Who may talk to this server: tokens, roles, this machine alone, and which web pages.

Two roles. The write token may do everything. The read token may look (GET, HEAD) and put the
questions of which nothing is kept: `POST /bird/v1/refer` and `/ask`. Grounding proposes findings
to the reviewers, so it needs the write token. Probes (`/live`, `/ready`) need none. Knows nothing
about paths, bodies or routes beyond these.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from bird_server.errors import ApiError

PROBES = frozenset({"/bird/v1/live", "/bird/v1/ready"})
ASKING = frozenset({"/bird/v1/refer", "/bird/v1/ask"})
LOOKING = frozenset({"GET", "HEAD"})
_LOOPBACK_NAMES = {"localhost", "ip6-localhost"}


class Role(Enum):
    """What a caller may do."""

    PROBE = "probe"  # live and ready only
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Tokens:
    """What callers must bring; without any, only this machine may ask, and it may do everything."""

    write: str | None = None
    read: str | None = None

    def __bool__(self) -> bool:
        return bool(self.write or self.read)


def check_caller(
    scope: Scope, headers: Headers, tokens: Tokens, origins: Sequence[str] = ()
) -> Role:
    """The caller's role. Raises ApiError 401 or 403 for strangers and foreign web pages."""
    role = _role(scope, headers, tokens)
    check_role(role, scope["method"], scope["path"].rstrip("/"))
    check_origin(headers, origins)
    return role


def _role(scope: Scope, headers: Headers, tokens: Tokens) -> Role:
    if not tokens:
        check_is_local(scope, headers)
        return Role.WRITE
    if scope["path"].rstrip("/") in PROBES and "authorization" not in headers:
        return Role.PROBE
    return role_of(headers.get("authorization", ""), tokens)


def role_of(authorization: str, tokens: Tokens) -> Role:
    """The role of a bearer token; both tokens are always compared, each in constant time.

    >>> role_of("Bearer look", Tokens(write="change", read="look"))
    <Role.READ: 'read'>
    """
    kind, _, given = authorization.partition(" ")
    writes = _same(given.strip(), tokens.write)
    reads = _same(given.strip(), tokens.read)
    if kind.lower() != "bearer" or not (writes or reads):
        raise ApiError(
            401,
            "unauthorized",
            "this server needs its token" if not authorization else "this token is not valid",
            "Send the header 'Authorization: Bearer TOKEN' with the server's token.",
        )
    return Role.WRITE if writes else Role.READ


def _same(given: str, token: str | None) -> bool:
    """Hashed first, so that the time tells nothing of the token's length either."""
    digests = [hashlib.sha256(text.encode()).digest() for text in (given, token or "")]
    return hmac.compare_digest(*digests) and bool(token)


def check_role(role: Role, method: str, path: str) -> None:
    """Raises ApiError 403 where readers would change something."""
    looks = method in LOOKING or (method == "POST" and path in ASKING)
    if role is Role.READ and not looks:
        raise ApiError(
            403,
            "read_only",
            f"the read token may not {method} here",
            "Send the server's write token, or only look.",
        )
    if role is Role.PROBE and method not in LOOKING:
        raise ApiError(401, "unauthorized", "probes only look", "Send GET, or the token.")


def check_is_local(scope: Scope, headers: Headers) -> None:
    """Peer and Host header must be this machine's (the latter defeats DNS rebinding)."""
    peer = (scope.get("client") or ("", 0))[0]
    if not (is_loopback(peer) and is_loopback(host_name(headers))):
        raise ApiError(
            403,
            "token_required",
            "without a token this server answers only its own machine, as 127.0.0.1 or localhost",
            "Set BIRD_TOKEN on the server, restart it, and send the token.",
        )


def host_name(headers: Headers) -> str:
    """The Host header without its port; "" where it is none."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:  # such as an IPv6 address without its end
        return ""


def check_origin(headers: Headers, origins: Sequence[str]) -> None:
    """A web page may ask from this very server, or from a listed origin."""
    origin = headers.get("origin")
    if origin is None or origin in origins:
        return
    if origin.partition("://")[2] != headers.get("host") or not origin.startswith("http"):
        raise ApiError(
            403,
            "cross_origin",
            f"web pages of {origin[:80]!r} may not ask",
            "Ask from no web page, or start the server with --allow-origin for this one.",
        )


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, can only be this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES
