"""Who may talk to this server, and which paths and sizes it lets in, on every route.

Stands before our routes and before MONAI Label's own, some of which would follow `..` out of the
studies folder. Knows nothing about what the routes do.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bird_server.errors import ApiError

JSON_LIMIT_BYTES = 1 << 20
_LOOPBACK_NAMES = {"localhost", "ip6-localhost"}
_DRIVE = re.compile(r"[A-Za-z]:")
# Routes of MONAI Label that are broken, that start second processes, or that nobody here uses.
_CLOSED = re.compile(r"/(batch|proxy|logs|reload|infer/wsi|infer/wsi_v2)(/|$)")
_CLOSED_TO_WRITING = re.compile(r"/model(/|$)")


@dataclass(frozen=True)
class Rules:
    """What the guard enforces."""

    upload_bytes: int  # largest body of an upload
    token: str | None = None  # without one, only this machine may ask


class Guard:
    """ASGI middleware that refuses what breaks the rules, with a JSON answer."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            check_caller(scope, headers, self._rules.token)
            check_paths(scope)
            limit = body_limit(scope["path"], self._rules)
            check_length(headers, limit)
        except ApiError as error:
            await error.problem.response()(scope, receive, send)
            return
        await self._app(scope, limited(receive, limit), send)


def check_caller(scope: Scope, headers: Headers, token: str | None) -> None:
    """A bearer token where one is set; otherwise this machine alone, and no foreign web page."""
    if token:
        check_token(headers.get("authorization", ""), token)
    else:
        check_is_local(scope, headers)
    origin = headers.get("origin")
    if origin and urlsplit(origin).netloc != headers.get("host"):
        raise ApiError(
            403, "cross_origin", f"web pages of {origin[:80]} may not ask", "Ask from no web page."
        )


def check_token(authorization: str, token: str) -> None:
    kind, _, given = authorization.partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    if kind.lower() != "bearer" or not same:
        raise ApiError(
            401,
            "unauthorized",
            "this server needs its token" if not authorization else "this token is not valid",
            "Send the header 'Authorization: Bearer TOKEN' with the server's token.",
        )


def check_is_local(scope: Scope, headers: Headers) -> None:
    """Peer and Host header must be this machine's (the latter defeats DNS rebinding)."""
    peer = (scope.get("client") or ("", 0))[0]
    host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    if not (is_loopback(peer) and is_loopback(host)):
        raise ApiError(
            403,
            "token_required",
            "without a token this server answers only its own machine, as 127.0.0.1 or localhost",
            "Set BIRD_TOKEN on the server, restart it, and send the token.",
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


def check_paths(scope: Scope) -> None:
    """No way out of a folder in the path or in any query value, and no closed route."""
    path = scope["path"]
    if not is_inside(path.removeprefix("/").removesuffix("/")):
        raise _path_refused("path")
    writes = scope["method"] not in ("GET", "HEAD")
    if _CLOSED.match(path) or (writes and _CLOSED_TO_WRITING.match(path)):
        raise ApiError(404, "closed", f"{path} is closed on this server", "GET /docs lists routes.")
    for key, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if value and not is_inside(value):
            raise _path_refused(key)


def is_inside(path: str) -> bool:
    """Whether a relative path stays inside its folder, whatever the operating system.

    >>> is_inside("case 1/scan.nii.gz"), is_inside("a/../../b"), is_inside("C:/x"), is_inside("/a")
    (True, False, False, False)
    """
    parts = path.replace("\\", "/").split("/")
    if path and ("" in parts or _DRIVE.match(path)):
        return False
    return not {".", ".."} & set(parts) and all(c.isprintable() for c in path)


def body_limit(path: str, rules: Rules) -> int:
    """The largest body in bytes: our JSON routes need little, uploads much."""
    is_json = path.startswith("/bird/") and path.rstrip("/") != "/bird/v1/volumes"
    return min(JSON_LIMIT_BYTES, rules.upload_bytes) if is_json else rules.upload_bytes


def check_length(headers: Headers, limit: int) -> None:
    """The announced length; a body that announces none is counted as it comes."""
    announced = headers.get("content-length", "0")
    if not announced.isascii() or not announced.isdigit():
        raise ApiError(400, "bad_request", "Content-Length is no number", "Send a valid length.")
    if int(announced) > limit:
        raise _too_large(limit)


def limited(receive: Receive, limit: int) -> Receive:
    """`receive` that stops a body after `limit` bytes."""
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return receive_limited


def _path_refused(where: str) -> ApiError:
    return ApiError(
        400,
        "bad_path",
        f"{where[:80]!r}: absolute paths, '.', '..', drives and control characters are refused",
        "Name a file of the studies folder, relative to it.",
    )


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "too_large", f"at most {limit} bytes are taken here", "Send less.")
