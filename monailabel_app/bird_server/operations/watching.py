"""Every request: a number, one line in the log, counts for the metrics, no exception beyond.

The outermost of our ASGI middleware. It logs the route's template; the path and the query, which
may name patients, only where questions may be logged. Knows nothing about who may ask or what
routes do.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bird_server.errors import problem_of
from bird_server.operations.logs import logs_questions, request_id
from bird_server.operations.metrics import count_request

ID_HEADER = "X-Request-ID"
NO_ROUTE = "none"  # refused before any route was found
_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/bird/v1/health", "/bird/v1/live", "/bird/v1/ready", "/bird/v1/metrics"})
logger = logging.getLogger(__name__)


class Watching:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number = id_of(Headers(scope=scope))
        token = request_id.set(number)
        try:
            await Watched(scope, send, number).run(self._app, receive)
        finally:
            request_id.reset(token)


class Watched:
    """One request on its way."""

    def __init__(self, scope: Scope, send: Send, number: str) -> None:
        self._scope, self._send, self._number = scope, send, number
        self._status: int | None = None  # of the answer, once it has begun
        self._begin = time.perf_counter()

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self._scope, receive, self._sent)
        except ClientDisconnect:
            logger.info("the client left before its answer")
        except Exception as error:
            logger.exception("a request failed")
            if self._status is None:
                await problem_of(error).response()(self._scope, receive, self._sent)
        finally:
            self._tell()

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            MutableHeaders(scope=message)[ID_HEADER] = self._number
        await self._send(message)

    def _tell(self) -> None:
        seconds = time.perf_counter() - self._begin
        method, status = method_of(self._scope), self._status or 499
        route = route_of(self._scope)
        count_request(method, route, status, seconds)
        level = logging.DEBUG if route in _QUIET and status < 500 else logging.INFO
        told = {
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "role": self._scope.get("bird.role", "none"),
        }
        if logs_questions():
            told |= {
                "path": self._scope["path"],
                "query": self._scope["query_string"].decode("latin-1"),
            }
        text = "%(method)s %(route)s %(status)s in %(seconds).3f s as %(role)s"
        logger.log(level, text, told, extra=told)


def id_of(headers: Headers) -> str:
    """The number that the client gave its request, where it is usable in a log; else a new one."""
    given = headers.get(ID_HEADER, "")
    return given if _USABLE_ID.fullmatch(given) else uuid.uuid4().hex


def method_of(scope: Scope) -> str:
    """The method; unknown ones are all called OTHER, so that nobody can fill the metrics."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "OTHER"


def route_of(scope: Scope) -> str:
    """The template of the route that was found, such as /infer/{model}.

    A route of a router within another one knows its own part only; the rest is as in the path.
    """
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return NO_ROUTE
    parts, own = scope["path"].split("/"), template.count("/")
    return "/".join(parts[: len(parts) - own]) + template
