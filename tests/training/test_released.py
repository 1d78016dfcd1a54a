"""The released format on disk: whole or absent, and what the authors' scripts take from it."""

from __future__ import annotations

import json

import pytest

from bird_training.facts import Turn
from bird_training.released import JsonListFile, entry

TURNS = [Turn("VG", "Where is the liver?", "<box>(1,2),(3,4)</box>"), Turn("ROC", "And?", "µ")]


def test_the_first_question_shows_the_picture():
    told = entry("ct_1", "images/ct_1.png", TURNS)
    assert told == {
        "id": "ct_1",
        "image": "images/ct_1.png",
        "conversations": [
            ["Picture 1: <img>images/ct_1.png</img>\nWhere is the liver?", TURNS[0].answer],
            ["And?", "µ"],
        ],
    }


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_is_json(tmp_path, count):
    path = tmp_path / "VG.json"
    with JsonListFile(path) as items:
        for number in range(count):
            items.add({"id": number, "text": 'µ "\n'})
        assert not path.exists()
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"id": number, "text": 'µ "\n'} for number in range(count)
    ]
    assert items.count == count


def test_lines_are_json_each(tmp_path):
    with JsonListFile(tmp_path / "facts.jsonl", lines=True) as items:
        items.add({"a": "\n"})
        items.add(None)
    lines = (tmp_path / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"a": "\n"}, None]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "VG.json"
    path.write_text("[]")
    with pytest.raises(TypeError), JsonListFile(path) as items:
        items.add(object())
    assert path.read_text() == "[]"
    assert [p.name for p in tmp_path.iterdir()] == ["VG.json"]
