"""Every route that the server's OpenAPI tells of, as requests that can be sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from attacked import Answer, Attacked, ask, form

UNKNOWN_ID = "0" * 32


@dataclass(frozen=True)
class Route:
    """One method of one path, with the whole document at hand."""

    method: str
    path: str
    operation: dict[str, Any]
    document: dict[str, Any]

    def parameters(self, place: str) -> list[str]:
        given = self.operation.get("parameters", [])
        return [parameter["name"] for parameter in given if parameter["in"] == place]

    def fields(self, kind: str) -> list[str]:
        """Names of a body's fields, for one content type."""
        content = self.operation.get("requestBody", {}).get("content", {})
        schema = resolved(content.get(kind, {}).get("schema", {}), self.document)
        branches = schema.get("oneOf", schema.get("anyOf", [schema]))
        found = [resolved(branch, self.document).get("properties", {}) for branch in branches]
        return sorted({name for properties in found for name in properties})

    def target(self, values: dict[str, str] | None = None) -> str:
        """Path and query; each path parameter has a value, and the query those of `values`."""
        values, path = values or {}, self.path
        for name in self.parameters("path"):
            path = path.replace(f"{{{name}}}", quote(values.get(name, UNKNOWN_ID), safe=""))
        names = [name for name in self.parameters("query") if name in values]
        query = "&".join(f"{name}={quote(values[name], safe='')}" for name in names)
        return f"{path}?{query}" if query else path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def routes(server: Attacked) -> list[Route]:
    document = ask(server, "GET", "/openapi.json").json()
    return [
        Route(method.upper(), path, operation, document)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def with_fields(server: Attacked, route: Route, fields: dict[str, Any], **more: str) -> Answer:
    """The route's request with these JSON or form fields."""
    if route.fields("multipart/form-data"):
        files = {name: value for name, value in fields.items() if isinstance(value, tuple)}
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        body, kind = form(texts, **files)
    else:
        body, kind = json.dumps(fields).encode(), "application/json"
    return ask(server, route.method, route.target(), body, content_type=kind, **more)


def text_places(found: list[Route]) -> Iterator[tuple[Route, str, str]]:
    """Route, `query` or `json` or `form`, and name, for everything that may hold a text."""
    for route in found:
        yield from ((route, "query", name) for name in route.parameters("query"))
        yield from ((route, "json", name) for name in route.fields("application/json"))
        yield from ((route, "form", name) for name in route.fields("multipart/form-data"))
