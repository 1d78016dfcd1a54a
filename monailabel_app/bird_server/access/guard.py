"""The guard before every route, ours and MONAI Label's: who asks, for what, and how much.

Some of MONAI Label's own routes would follow `..` out of the studies folder, start processes or
unpack archives; those that nobody here uses are closed. The rules themselves are in `access`,
`names`, `texts` and `bodies`. Knows nothing about what the routes do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bird_server.access.bodies import (
    PATIENCE_S,
    UPLOAD_PATH,
    body_limit,
    check_length,
    is_form,
    limited,
    with_checked_json,
)
from bird_server.access.names import is_inside, path_refused
from bird_server.access.texts import check_text
from bird_server.access.tokens import LOOKING, Tokens, check_caller
from bird_server.errors import ApiError

MAX_HEADERS = 100
MAX_PATH_CHARACTERS = 2_000
MAX_QUERY_BYTES = 8_000
MAX_QUERY_FIELDS = 100
# Broken, dangerous, or of no use here: proxies, weights, archives, other viewers.
_CLOSED = re.compile(
    r"/(proxy|logs|reload|ohif|static|model|infer/wsi|infer/wsi_v2|datastore/dataset)(/|$)"
)


@dataclass(frozen=True)
class Rules:
    """What the guard enforces."""

    upload_bytes: int  # largest body of an upload
    tokens: Tokens = field(default_factory=Tokens)  # without any, only this machine may ask
    origins: tuple[str, ...] = ()  # web pages that may ask, such as https://viewer.example
    patience_s: float = PATIENCE_S  # with a body that comes slowly


class Guard:
    """ASGI middleware that refuses what breaks the rules, with a JSON answer."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._guarded(scope, receive, send)
        else:  # no route here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            receive = await self._checked(scope, receive)
        except ApiError as error:
            await error.problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """The body's checked messages. Raises ApiError."""
        headers, path, rules = Headers(scope=scope), scope["path"], self._rules
        scope["bird.role"] = check_caller(scope, headers, rules.tokens, rules.origins).value
        check_sizes(scope)
        check_paths(scope)
        check_query(scope)
        limit = body_limit(path, headers, rules.upload_bytes)
        check_length(headers, limit)
        receive = limited(receive, limit, rules.patience_s)
        has_file = path.rstrip("/") == UPLOAD_PATH or is_form(headers)
        if has_file or scope["method"] in LOOKING:
            return receive
        return await with_checked_json(receive)


def check_sizes(scope: Scope) -> None:
    """Few headers, a short path and a short query."""
    too_large = (
        len(scope["headers"]) > MAX_HEADERS
        or len(scope["path"]) > MAX_PATH_CHARACTERS
        or len(scope["query_string"]) > MAX_QUERY_BYTES
    )
    if too_large:
        raise ApiError(
            431,
            "too_large",
            f"at most {MAX_HEADERS} headers, {MAX_PATH_CHARACTERS} characters of path and "
            f"{MAX_QUERY_BYTES} bytes of query are taken",
            "Send less.",
        )


def check_paths(scope: Scope) -> None:
    """No way out of a folder in the path, and no closed route."""
    path = scope["path"]
    if not is_inside(path.removeprefix("/").removesuffix("/")):
        raise path_refused("path")
    if _CLOSED.match(path):
        raise ApiError(404, "closed", f"{path} is closed on this server", "GET /docs lists routes.")


def check_query(scope: Scope) -> None:
    """No way out of a folder, and no control token, in any value or key of the query."""
    try:
        query = scope["query_string"].decode("latin-1")
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise ApiError(
            400, "bad_request", f"query: at most {MAX_QUERY_FIELDS} fields", "Send fewer."
        ) from error
    for key, value in fields:
        check_text("a key of the query", key)
        if value and not is_inside(value):
            raise path_refused(key)
        check_text(key[:80], value)
