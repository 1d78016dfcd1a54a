"""Files of predictions: what is read, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.evaluation.predictions import (
    modality_of,
    modality_order,
    read_predictions,
    to_prediction,
)
from bird_vlm.errors import BirdError

ROW = {
    "id": "ct_btcv_1",
    "image": "images/ct_btcv_1.png",
    "question": "Where?",
    "annotation": "<ref>liver</ref><box>(1,2),(3,4)</box>",
    "response": "",
}


def write(folder: Path, text: str, task: str = "VG") -> Path:
    (folder / f"{task}.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_a_line_is_a_prediction(tmp_path):
    row = ROW | {"score": 0.25, "case": 7, "more": [1]}
    (read,) = read_predictions(write(tmp_path, f"{json.dumps(row)}\n\n"))["VG"]
    assert (read.id, read.modality, read.score, read.case) == ("ct_btcv_1", "ct", 0.25, "7")
    (plain,) = read_predictions(write(tmp_path, json.dumps(ROW)))["VG"]
    assert (plain.score, plain.case) == (None, None)


def test_tasks_without_lines_are_left_out(tmp_path):
    write(tmp_path, "", task="ROC")
    assert set(read_predictions(write(tmp_path, json.dumps(ROW)))) == {"VG"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param(
            '{"id": "ct_1", "ima', ["line 2", "not JSON", "interrupted"], id="half-a-line"
        ),
        pytest.param('{"id": }\n', ["line 2", "not JSON", "repair"], id="broken-inside"),
        pytest.param("[1, 2]\n", ["line 2", "object", "list"], id="a-list"),
        pytest.param('{"id": 1}\n', ["line 2", "lacks", "'response'"], id="keys-missing"),
        pytest.param(json.dumps(ROW | {"response": None}), ["'response' must be text"], id="null"),
        pytest.param(json.dumps(ROW | {"score": 1.5}), ["'score'", "1.5"], id="score-above-1"),
        pytest.param(json.dumps(ROW | {"score": "high"}), ["'score'", "'high'"], id="score-text"),
        pytest.param(json.dumps(ROW | {"score": True}), ["'score'", "True"], id="score-truth"),
        pytest.param(json.dumps(ROW | {"score": float("nan")}), ["'score'", "nan"], id="score-nan"),
    ],
)
def test_what_is_no_prediction_is_refused_with_its_place(tmp_path, line, words):
    write(tmp_path, f"{json.dumps(ROW)}\n{line}")
    with pytest.raises(BirdError) as raised:
        read_predictions(tmp_path)
    for word in ["VG.jsonl", *words]:
        assert word in str(raised.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "VG.jsonl").write_bytes(b'{"id": "\xff\xfe"}\n')
    with pytest.raises(BirdError, match=r"line 1: is not JSON"):
        read_predictions(tmp_path)


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(BirdError, match=r"has none of VG\.jsonl.*medgrit predict"):
        read_predictions(tmp_path)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_reading(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "MIA.jsonl").write_bytes(data)
    if data.strip():
        with pytest.raises(BirdError, match=r"MIA\.jsonl, line"):
            read_predictions(folder)
    else:
        assert read_predictions(folder) == {}


@pytest.mark.parametrize(
    ("row", "modality"),
    [
        pytest.param({"id": "pet_sts_1", "image": "a.png"}, "pet", id="by-id"),
        pytest.param({"id": 12, "image": "x_covid_1.png"}, "x", id="by-picture"),
        pytest.param({"id": 12, "image": "images/mr_a.png"}, "mr", id="by-picture-in-a-folder"),
        pytest.param({"id": "1", "image": "oct_a.png"}, "oct", id="another-modality"),
        pytest.param({"id": "a", "image": "ct_a.png", "modality": "all"}, "all", id="stated"),
    ],
)
def test_modalities_are_read_off_names(row, modality):
    assert modality_of(row) == modality


def test_modalities_stand_as_in_the_paper():
    assert modality_order(["oct", "x", "ct", "all", "mr", "ct"]) == ["ct", "mr", "x", "all", "oct"]


def test_numbers_may_be_ids():
    assert to_prediction(ROW | {"id": 3}, "here").id == "3"
