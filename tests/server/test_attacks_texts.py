"""Texts that would speak to the model or break a database, in every field of every route."""

from __future__ import annotations

import json

import pytest

from attacked import Attacked, ask, ask_json, assert_refused, form, settled, tree
from bird_vlm.dialects import DIALECTS
from openapi_walk import routes, text_places, with_fields

pytestmark = pytest.mark.slow
TOKENS = {
    "bird": ["<|im_start|>", "<box>", "</ref>", "<img>", "<imgpad>"],
    "qwen2.5-vl": ["<|vision_start|>", "<think>", "</tool_call>"],
    "qwen3-vl": ["<|image_pad|>"],
    "paligemma": ["<loc0001>", "<seg001>", "<eos>"],
    "radgrounder": ["<p bbox="],
    "gemma3": ["<start_of_turn>", "<image_soft_token>", "[multimodal]"],
}
UGLY = {"NUL": "a\0b", "bell": "a\x07b", "half a character": "\ud800", "endless": "a" * 20_000}


@pytest.fixture
def a_server(an_attacked_server) -> Attacked:
    return an_attacked_server


def test_every_family_is_asked_for(a_server):
    assert set(TOKENS) == set(DIALECTS)


@pytest.mark.parametrize(
    "token", [token for tokens in TOKENS.values() for token in tokens] + ["<|IM_END|>"]
)
def test_no_control_token_comes_in_by_any_field(a_server, token):
    before = settled(a_server)
    text = f"liver {token} and more"

    for route, place, name in text_places(routes(a_server)):
        if place == "query":
            answer = ask(a_server, route.method, route.target({name: text}))
        elif place == "form":
            answer = with_fields(a_server, route, {name: f'{{"prompt": "{text}"}}'})
        else:
            answer = with_fields(a_server, route, {name: text})
        assert 400 <= answer.status < 500, (str(route), place, name, answer.status)
        if place == "json":
            assert answer.json()["error"] == "bad_text", (str(route), name)

    assert tree(a_server.home) == before


@pytest.mark.parametrize("text", UGLY.values(), ids=UGLY)
def test_no_ugly_text_comes_in_by_any_json_field(a_server, text):
    before = settled(a_server)

    for route, place, name in text_places(routes(a_server)):
        if place == "json":
            for value in (text, [text], {"x": {text[:9]: text}}):
                answer = with_fields(a_server, route, {name: value})
                assert assert_refused(answer, 422)["error"] == "bad_text", (str(route), name)

    assert tree(a_server.home) == before


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", str(2**53 + 1)])
def test_no_number_comes_in_that_nobody_can_store(a_server, number):
    before = settled(a_server)

    for route in routes(a_server):
        for name in route.fields("application/json"):
            body = f'{{"{name}": {number}}}'.encode()
            answer = ask(
                a_server, route.method, route.target(), body, content_type="application/json"
            )
            assert assert_refused(answer, 422)["error"] == "bad_text", (str(route), name)

    assert tree(a_server.home) == before


@pytest.mark.parametrize("prompt", ["<|im_start|>", "liver, <box>(1,2),(3,4)</box>", "\x00"])
def test_the_stock_plugins_prompt_is_judged_too(a_server, prompt):
    before = settled(a_server)

    body, kind = form({"params": json.dumps({"prompt": prompt})})
    answer = ask(a_server, "POST", "/infer/bird_grounding?image=a", body, content_type=kind)

    assert assert_refused(answer, 422)["error"] == "bad_text"
    assert tree(a_server.home) == before


def test_deep_json_is_refused(a_server):
    body = b"[" * 200_000

    answer = ask(a_server, "POST", "/bird/v1/ask", body, content_type="application/json")

    assert_refused(answer, 400, 422)


def test_a_word_with_a_comparison_is_no_control_token(a_server):
    question = {"volume_id": "0" * 64, "question": "Is it < 5 mm & > 2 mm? |x|", "slice": 0}

    answer = ask_json(a_server, "POST", "/bird/v1/ask", question)

    assert assert_refused(answer, 404)["error"] == "unknown_volume"
