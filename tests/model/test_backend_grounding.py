"""A model on another server finds what is there, through `bird`."""

from __future__ import annotations

import json

import pytest

from bird_vlm.boxes import iou
from bird_vlm.dialects import dialect_of
from elsewhere import KEY, WINDOW, bird, found, ground, true_box
from seeing_server import MODEL, Handler, Reply, Sight, a_knowing_model, completion, refusal


@pytest.mark.parametrize("dialect", ["qwen3-vl", "qwen2.5-vl", "gemma3"])
@pytest.mark.parametrize(
    "says",
    [
        pytest.param(("Yes.", "No."), id="yes or no"),
        pytest.param(("**yes**", "no, there is none"), id="with more around"),
        pytest.param(("Perhaps.", "Perhaps."), id="neither"),
    ],
)
def test_the_block_is_found_where_it_is(a_server, scan, a_phantom_volume, dialect, says):
    a_server.answer = a_knowing_model(dialect_of(dialect), says=says)
    result = ground(a_server, scan, "--dialect", dialect)
    assert result.exit_code == 0, result.output
    boxes = found(scan)
    assert sorted(boxes) == [3, 4, 5, 6]
    assert all(iou(box, true_box(a_phantom_volume)) > 0.95 for box in boxes.values())
    boxed = sum(sight.asks_for_boxes for sight in a_server.asked)
    assert boxed == (6 if says == ("Perhaps.", "Perhaps.") else 4)


def test_it_is_told_what_was_asked_and_what_it_took(a_server, scan):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    result = ground(a_server, scan)
    assert f"{a_server.url}: 10 answers; 1,000 tokens" in result.stderr
    assert "100 of answers" in result.stderr
    assert a_server.keys == {f"Bearer {KEY}"}
    assert {sight.body["model"] for sight in a_server.asked} == {MODEL}
    assert {sight.body["temperature"] for sight in a_server.asked} == {0.0}
    assert KEY not in result.output


def test_a_name_of_the_table_is_what_the_server_calls_it(a_server, scan):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    assert ground(a_server, scan, "--model", "qwen3-vl-4b").exit_code == 0
    assert {sight.body["model"] for sight in a_server.asked} == {MODEL}
    a_server.models = ["qwen3-vl-4b"]
    a_server.asked.clear()
    assert ground(a_server, scan, "--model", "qwen3-vl-4b").exit_code == 0
    assert {sight.body["model"] for sight in a_server.asked} == {"qwen3-vl-4b"}


def test_what_is_no_box_is_counted_and_left_out(a_server, scan):
    knowing = a_knowing_model(dialect_of("qwen3-vl"))
    garbled = ['[{"bbox_2d": [1, 2, 3', "I see it on the left."]

    def answer(sight: Sight) -> Reply:
        if sight.asks_for_boxes and garbled:
            return completion(garbled.pop())
        return knowing(sight)

    a_server.answer = answer
    result = ground(a_server, scan)
    assert result.exit_code == 0, result.output
    assert "2 answers were not in the language of boxes" in result.stderr
    assert json.loads((scan.parent / "out.json").read_text())["unreadable"] == 2


def test_a_box_gets_its_name_and_a_slice_its_words(a_server, scan):
    a_server.answer = lambda sight: completion(
        " a block " if "in the area" in sight.prompt else " A phantom. "
    )
    options = ["--window", WINDOW, "--backend", a_server.url, "--model", MODEL]
    referred = bird("refer", scan, "--box-ras", "14,-2,-26,22,12,-8", *options)
    asked = bird("ask", scan, "What is shown?", "--slice", "4", *options)
    assert (referred.exit_code, asked.exit_code) == (0, 0), referred.output + asked.output
    assert (referred.stdout, asked.stdout) == ("a block\n", "A phantom.\n")
    assert '"bbox_2d": [' in a_server.asked[0].prompt
    assert a_server.asked[1].prompt == "What is shown?"
    assert a_server.asked[1].picture.shape == (18, 20)


def test_a_server_that_lists_nothing_is_asked_all_the_same(a_server, scan, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.reply(*refusal(404)))
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    assert ground(a_server, scan).exit_code == 0
