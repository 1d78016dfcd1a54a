"""Nonsense for every route that the OpenAPI tells of: never a bare 500, never HTML."""

from __future__ import annotations

import json

import pytest

from attacked import Answer, Attacked, ask, form
from openapi_walk import Route, routes

pytestmark = pytest.mark.slow
VALUES = ["", "0", "-1", "999999999999999", "nan", "true", "[]", "☃", "%", "x" * 300, "0" * 64]
BODIES = [
    pytest.param(b"", "application/json", id="nothing"),
    pytest.param(b"{}", "application/json", id="no fields"),
    pytest.param(b"[]", "application/json", id="a list"),
    pytest.param(b"null", "application/json", id="null"),
    pytest.param(b'{"a"', "application/json", id="cut off"),
    pytest.param(b"\xff\xfe\x00", "application/json", id="no UTF-8"),
    pytest.param(b"{}", "text/plain", id="text"),
    pytest.param(b"a=b&params=%00", "application/x-www-form-urlencoded", id="form"),
    pytest.param(b"x", "nonsense", id="unknown type"),
    pytest.param(*form({"params": "[1, 2]", "info": "nonsense"}), id="multipart"),
]


@pytest.fixture
def a_server(an_attacked_server) -> Attacked:
    return an_attacked_server


def assert_told(answer: Answer, route: Route) -> None:
    """Success, or a refusal in JSON; a file or a page may be anything."""
    assert answer.status < 500 or answer.json()["error"] not in ("server_error",), (
        str(route),
        answer.body[:300],
    )
    if answer.status >= 400 and route.method != "HEAD":
        assert answer.headers["content-type"] == "application/json", str(route)
        assert {"error", "detail", "hint"} <= set(json.loads(answer.body)), str(route)


@pytest.mark.parametrize(("body", "kind"), BODIES)
def test_no_body_breaks_any_route(a_server, body, kind):
    for route in routes(a_server):
        assert_told(ask(a_server, route.method, route.target(), body, content_type=kind), route)


@pytest.mark.parametrize("value", VALUES)
def test_no_value_breaks_any_parameter(a_server, value):
    for route in routes(a_server):
        names = [*route.parameters("path"), *route.parameters("query")]
        for values in [{name: value} for name in names] + [dict.fromkeys(names, value)]:
            assert_told(ask(a_server, route.method, route.target(values)), route)


@pytest.mark.parametrize(
    "value", [None, True, -1, 1.5, "", "x", [], {}, [[1]], {"x": []}, "0" * 64]
)
def test_no_value_breaks_any_field(a_server, value):
    for route in routes(a_server):
        for kind in ("application/json", "multipart/form-data"):
            names = route.fields(kind)
            for fields in [{name: value} for name in names] + [dict.fromkeys(names, value)]:
                body, sent_as = body_of(fields, kind)
                answer = ask(a_server, route.method, route.target(), body, content_type=sent_as)
                assert_told(answer, route)


def body_of(fields: dict, kind: str) -> tuple[bytes, str]:
    if kind == "application/json":
        return json.dumps(fields).encode(), kind
    return form({name: json.dumps(value) for name, value in fields.items()})


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"]
)
def test_no_method_breaks_any_path(a_server, method):
    for route in routes(a_server):
        answer = ask(a_server, method, route.target())
        assert_told(answer, Route(method, route.path, {}, {}))


@pytest.mark.parametrize("path", ["/nowhere", "/bird", "/bird/v2/health", "//", "*", "/info/x"])
def test_unknown_paths_are_told_in_json(a_server, path):
    answer = ask(a_server, "GET", path)

    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == "application/json"
