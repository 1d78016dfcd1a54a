"""The OpenAPI of our routes is complete: said in words, with examples, and with what can fail."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

OURS = "/bird/v1/"
METHODS = ("get", "put", "post", "patch", "delete")


@pytest.fixture(scope="module")
def a_document(_running) -> dict[str, Any]:
    import requests

    return requests.get(f"{_running.url}/openapi.json", timeout=30).json()


def operations(document: dict) -> list[tuple[str, dict]]:
    """All that is under /bird/v1."""
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith(OURS) and method in METHODS
    ]


def resolved(document: dict, schema: dict) -> dict:
    if "$ref" not in schema:
        return schema
    return resolved(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]])


def has_example(document: dict, schema: dict) -> bool:
    """The schema shows one, or all its fields or choices do."""
    schema = resolved(document, schema)
    if {"example", "examples", "default", "const", "enum"} & set(schema):
        return True
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            wanted = [s for s in schema[choice] if s.get("type") != "null"]
            return all(has_example(document, s) for s in wanted)
    if schema.get("type") == "array":
        return has_example(document, schema.get("items", {}))
    fields = schema.get("properties", {})
    return bool(fields) and all(has_example(document, field) for field in fields.values())


def shows(document: dict, content: dict) -> bool:
    return all(
        "example" in media or "examples" in media or has_example(document, media.get("schema", {}))
        for media in content.values()
    )


def test_our_routes_are_there(a_document):
    named = {name for name, _ in operations(a_document)}

    assert {
        "get /bird/v1/health",
        "put /bird/v1/volumes",
        "delete /bird/v1/volumes/{volume_id}",
        "post /bird/v1/jobs",
        "get /bird/v1/jobs/{job_id}/events",
        "get /bird/v1/jobs/{job_id}/result",
        "delete /bird/v1/jobs/{job_id}",
        "post /bird/v1/ground",
    } <= named


def test_every_route_is_said_in_words(a_document):
    mute = [
        n for n, o in operations(a_document) if not o.get("summary") or not o.get("description")
    ]
    assert mute == []


def test_every_body_has_an_example(a_document):
    mute = [
        name
        for name, operation in operations(a_document)
        if "requestBody" in operation and not shows(a_document, operation["requestBody"]["content"])
    ]
    assert mute == []


def test_every_parameter_of_ours_has_an_example_or_a_choice(a_document):
    mute = [
        f"{name} {parameter['name']}"
        for name, operation in operations(a_document)
        for parameter in operation.get("parameters", ())
        if "example" not in parameter and not has_example(a_document, parameter["schema"])
    ]
    assert mute == []


def test_every_answer_has_an_example(a_document):
    mute = [
        f"{name} {status}"
        for name, operation in operations(a_document)
        for status, answer in operation["responses"].items()
        if "content" in answer and not shows(a_document, answer["content"])
    ]
    assert mute == []


def test_every_failure_that_a_client_can_cause_is_documented(a_document):
    lacking = []
    for name, operation in operations(a_document):
        told = set(operation["responses"])
        if "{" in name and "404" not in told:
            lacking.append(f"{name} 404")
        if "requestBody" in operation and "422" not in told:
            lacking.append(f"{name} 422")
    assert lacking == []


def test_failures_look_as_every_failure_does(a_document):
    for name, operation in operations(a_document):
        for status, answer in operation["responses"].items():
            if status[0] in "45" and "application/json" in answer.get("content", {}):
                told = answer["content"]["application/json"]
                schema = resolved(a_document, told.get("schema", {}))
                fields = schema.get("properties") or told["example"]
                assert {"error", "detail", "hint"} <= set(fields), f"{name} {status}"


def test_examples_fit_their_schemas(a_document):
    for name, schema in a_document["components"]["schemas"].items():
        for example in schema.get("examples", ()) if isinstance(schema, dict) else ():
            whole = schema | {"components": a_document["components"]}
            jsonschema.Draft7Validator(whole).validate(example), name
