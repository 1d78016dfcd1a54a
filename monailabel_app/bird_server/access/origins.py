"""Web pages of other sites: only listed ones may ask. Knows nothing about tokens or routes."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from bird_server.errors import Problem
from bird_server.operations.watching import ID_HEADER


class ListedOrigins(CORSMiddleware):
    """Lets listed web pages ask and read answers; refuses the others' preflights as JSON."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID", ID_HEADER],
            expose_headers=[ID_HEADER, "Location", "Retry-After"],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        problem = Problem(403, "cross_origin", "this web page may not ask so", "Ask from no page.")
        return problem.response()
