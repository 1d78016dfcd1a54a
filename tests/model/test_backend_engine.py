"""What the engine of a model elsewhere reads out of its replies: presence, boxes, certainty."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from bird_vlm.dialects import dialect_of
from bird_vlm.endpoint_answers import read_answer
from elsewhere import asked_once, engine_on
from seeing_server import Reply, Sight, a_knowing_model, completion, refusal, token


@pytest.mark.parametrize(
    ("first", "presence"),
    [
        pytest.param([token("Yes", 0.6, No=0.2)], 0.75, id="both"),
        pytest.param([token("Yes", 0.5, **{" yes": 0.1, "no": 0.2})], 0.75, id="both ways"),
        pytest.param([token("\n", 0.9), token("No", 0.3, Yes=0.1)], 0.25, id="after a blank"),
        pytest.param([token("Yes", 0.9)], 1.0, id="one only"),
        pytest.param([token("A", 0.9)], 0.0, id="neither: the text tells"),
        pytest.param([{"token": "Yes", "logprob": None}], 0.0, id="malformed: the text tells"),
        pytest.param(None, 0.0, id="none: the text tells"),
    ],
)
def test_presence_is_read_off_the_first_word(a_server, a_picture, first, presence):
    a_server.answer = lambda sight: completion("no", first)
    engine = engine_on(a_server)
    answer = asked_once(engine, a_picture, threshold=0.9999)
    if presence < 1:
        assert answer.presence == pytest.approx(presence)
        assert len(a_server.asked) == 1
    else:
        assert len(a_server.asked) == 2


def test_a_box_is_as_certain_as_its_numbers(a_server, a_picture):
    parts = [('[{"bbox_2d": [', 0.1), ("500", 0.5), (", 200, ", 0.5), ("750, 400", 0.125)]
    parts += [('], "label": "the block"}', 0.1), (', {"bbox_2d": [0, 0, 9', 1.0)]
    parts += [(', 9], "label": "the block"}]', 1.0)]
    text = "".join(part for part, _ in parts)

    def answer(sight: Sight) -> Reply:
        if not sight.asks_for_boxes:
            return completion("Yes", [token("Yes", 0.8, No=0.2)])
        return completion(text, [token(part, probability) for part, probability in parts])

    a_server.answer = answer
    answered = asked_once(engine_on(a_server), a_picture)
    assert answered.presence == pytest.approx(0.8)
    assert answered.boxes_norm == ((500, 200, 750, 400), (0, 0, 9, 9))
    assert answered.scores == pytest.approx((math.cbrt(0.5 * 0.5 * 0.125), 1.0))


def test_a_server_that_refuses_to_tell_is_asked_again_without(a_server, a_picture):
    knowing = a_knowing_model(dialect_of("qwen3-vl"))

    def answer(sight: Sight) -> Reply:
        return refusal(422, "extra field") if "logprobs" in sight.body else knowing(sight)

    a_server.answer = answer
    engine = engine_on(a_server)
    assert asked_once(engine, a_picture).boxes_norm == ((500, 200, 750, 400),)
    assert asked_once(engine, a_picture).scores == (1.0,)
    assert ["logprobs" in sight.body for sight in a_server.asked] == [True] + [False] * 4


def test_families_that_mark_boxes_with_tokens_wish_to_see_them(a_server, a_picture):
    dialect = dialect_of("bird")
    a_server.answer = lambda sight: completion(dialect.format("the block", (sight.box_norm,), None))
    answer = asked_once(engine_on(a_server, "bird"), a_picture)
    assert (answer.presence, answer.boxes_norm) == (1.0, ((500, 200, 750, 400),))
    (sight,) = a_server.asked
    assert sight.body["skip_special_tokens"] is False


def test_answers_stay_with_their_pictures_and_labels(a_server, a_picture):
    pictures = [np.roll(a_picture, 5 * step, axis=0) for step in range(4)]
    labels = ["the block", "nothing"]
    knowing = a_knowing_model(dialect_of("qwen3-vl"))

    def answer(sight: Sight) -> Reply:
        time.sleep(0.02 * (hash(sight.prompt) % 3))
        return completion("no") if '"nothing"' in sight.prompt else knowing(sight)

    a_server.answer = answer
    engine = engine_on(a_server, concurrency=3)
    rows = engine.ground(engine.encode(pictures), labels)
    tops = [row[0].boxes_norm[0][1] for row in rows]
    assert tops == [200, 300, 400, 500]
    assert [row[1].boxes_norm for row in rows] == [()] * 4
    assert 1 < a_server.most_under_way <= 3


def test_words_are_as_certain_as_their_tokens(a_server, a_picture):
    a_server.answer = lambda sight: completion("a block", [token("a ", 0.5), token("block", 0.125)])
    engine = engine_on(a_server)
    answer = engine.refer(engine.encode([a_picture]), (0, 0, 500, 500), "rc")
    assert (answer.text, answer.score) == ("a block", pytest.approx(0.25))


def test_what_a_server_tells_of_its_tokens_is_read():
    reply = completion("Yes", [token("Yes", 0.6, No=0.2)])[1]
    answer = read_answer(reply)
    assert dict(answer.tokens) == {"Yes": pytest.approx(0.6)}
    assert dict(answer.first_tokens) == {"Yes": pytest.approx(0.6), "No": pytest.approx(0.2)}
    assert (answer.question_tokens, answer.answer_tokens) == (100, 10)
