"""The server: MONAI Label's app with our routes, our guard before them, our errors.

`app` is what uvicorn serves. Importing this module is enough to dress the app of a server that
was started by the plain `monailabel start_server` (MONAI Label has one app per process).
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from monailabel.app import app as monailabel_app

from bird_server.access.guard import Guard, Rules
from bird_server.access.origins import ListedOrigins
from bird_server.access.tokens import Tokens
from bird_server.errors import answer_as_json
from bird_server.operations.logs import keep_names_out
from bird_server.operations.watching import Watching
from bird_server.routes import (
    api,
    inference,
    operation,
    reviews,
    stock,
    tasks,
    versions,
)
from bird_server.volumes.volumes_store import limit_from_environment

TOKEN_VARIABLE = "BIRD_TOKEN"
READ_TOKEN_VARIABLE = "BIRD_READ_TOKEN"
ORIGINS_VARIABLE = "BIRD_ALLOW_ORIGINS"  # separated by blanks
_ROUTERS = (
    api.router,
    reviews.router,
    versions.router,
    operation.router,
    inference.router,
    tasks.router,
    stock.router,
)
_PAGES = {"/openapi.json", "/docs", "/", "/favicon.ico"}


def rules_from_environment() -> Rules:
    tokens = Tokens(
        os.environ.get(TOKEN_VARIABLE) or None, os.environ.get(READ_TOKEN_VARIABLE) or None
    )
    origins = tuple(os.environ.get(ORIGINS_VARIABLE, "").split())
    return Rules(limit_from_environment(), tokens, origins)


def dress(app: FastAPI, rules: Rules) -> FastAPI:
    """Our routes and the few stock ones that stay, the guard before them, CORS by list only."""
    pages = [route for route in app.router.routes if getattr(route, "path", None) in _PAGES]
    app.router.routes[:] = pages
    for router in _ROUTERS:
        app.include_router(router)
    app.router.routes += stock.kept_routes()
    answer_as_json(app)
    app.user_middleware[:] = []
    app.middleware_stack = None  # built anew at the next request, also when already serving
    app.add_middleware(Guard, rules=rules)  # the innermost; each further one goes around
    if rules.origins:
        app.add_middleware(ListedOrigins, origins=rules.origins)
    app.add_middleware(Watching)
    keep_names_out()
    return app


app = dress(monailabel_app, rules_from_environment())
