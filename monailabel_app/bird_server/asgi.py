"""The server: MONAI Label's app with our routes in front, our guard before them, our errors.

`app` is what uvicorn serves. Importing this module is enough to dress the app of a server that
was started by the plain `monailabel start_server` (MONAI Label has one app per process).
"""

from __future__ import annotations

import logging
import os

from fastapi import APIRouter, FastAPI
from monailabel.app import app as monailabel_app
from starlette.middleware.cors import CORSMiddleware

from bird_server import api, infer_route
from bird_server.errors import answer_as_json
from bird_server.guard import Guard, Rules
from bird_server.volumes_store import limit_from_environment

TOKEN_VARIABLE = "BIRD_TOKEN"
# These write requests, file names and free text, which may name patients, into the log.
_TALKATIVE = ("infer", "datastore", "session", "activelearning")


def rules_from_environment() -> Rules:
    return Rules(limit_from_environment(), os.environ.get(TOKEN_VARIABLE) or None)


def dress(app: FastAPI, rules: Rules) -> FastAPI:
    """Puts our routes first, the guard before everything, and closes CORS."""
    put_first(app, infer_route.router)
    put_first(app, api.router)
    answer_as_json(app)
    app.user_middleware[:] = [m for m in app.user_middleware if m.cls is not CORSMiddleware]
    app.middleware_stack = None  # built anew at the next request, also when already serving
    app.add_middleware(Guard, rules=rules)
    for name in _TALKATIVE:
        logging.getLogger(f"monailabel.endpoints.{name}").setLevel(logging.WARNING)
    return app


def put_first(app: FastAPI, router: APIRouter) -> None:
    """Routes are tried in order: ours must stand before the ones they replace."""
    routes = app.router.routes
    before = len(routes)
    app.include_router(router)
    routes[:] = routes[before:] + routes[:before]


app = dress(monailabel_app, rules_from_environment())
