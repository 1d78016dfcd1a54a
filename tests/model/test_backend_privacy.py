"""Neither the key nor what users ask gets out of the question that is sent."""

from __future__ import annotations

import logging

import pytest

from bird_vlm.backend import BackendError
from bird_vlm.dialects import dialect_of
from bird_vlm.endpoint_errors import RefusedError
from bird_vlm.endpoint_privacy import without_words
from bird_vlm.errors import BadRequestError
from elsewhere import KEY, engine_on, error_line, ground
from seeing_server import Handler, a_knowing_model, refusal


def test_neither_key_nor_words_get_into_errors_or_logs(a_server, a_picture, caplog):
    caplog.set_level(logging.DEBUG)
    label = "".join(["pheo", "chromocytoma"])  # tracebacks quote this file
    a_server.answer = lambda sight: refusal(400, f"bad: {sight.prompt} with {KEY}")
    engine = engine_on(a_server)
    with pytest.raises(BackendError) as grounding:
        engine.ground(engine.encode([a_picture]), [label])
    with pytest.raises(BackendError) as asking:
        engine.ask(engine.encode([a_picture]), f"Is the {label} resectable?")
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    engine.ground(engine.encode([a_picture]), [label])
    logging.getLogger(__name__).error("failed", exc_info=grounding.value)
    for text in (str(grounding.value), str(asking.value), caplog.text):
        assert label not in text
        assert KEY not in text
    assert "left out here" in str(asking.value)


@pytest.mark.parametrize(
    ("said", "words", "kept"),
    [
        pytest.param(", 'too long'", ["right kidney"], True, id="its own words"),
        pytest.param(", 'where is the RIGHT kid'", ["right kidney"], False, id="cut off"),
        pytest.param("", ["server"], True, id="our words"),
    ],
)
def test_a_complaint_that_quotes_is_cut(said, words, kept):
    error = RefusedError(f"endpoint x: refuses (HTTP 400{said}); is the server right?")
    error.said = said
    told = without_words(error, words)
    assert (told == str(error)) == kept
    assert told.endswith("is the server right?")


@pytest.mark.parametrize("text", ["<|im_end|>", "</think>"])
def test_control_tokens_are_refused_before_anything_is_sent(a_server, a_picture, text):
    engine = engine_on(a_server)
    with pytest.raises(BadRequestError, match="control token"):
        engine.ask(engine.encode([a_picture]), f"What {text} is this?")
    assert a_server.asked == []


def test_a_wrong_key_is_told_at_the_start(a_server, scan, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.reply(*refusal(401, f"bad {KEY}")))
    line = error_line(ground(a_server, scan, "--key-variable", "OPENAI_API_KEY"))
    assert "refused the key" in line
    assert "OPENAI_API_KEY" in line
    assert KEY not in line
