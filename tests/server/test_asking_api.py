"""What is in this box, and questions in words, over real HTTP."""

from __future__ import annotations

import pytest

from scripted import PRESENT, assert_refused


def test_referring_names_what_is_in_the_box(a_session, a_volume_id):
    answer = a_session.post(
        "/bird/v1/refer", json={"volume_id": a_volume_id, "box_ras": [2, 2, 3, 8, 8, 9]}
    )

    assert answer.status_code == 200
    assert (answer.json()["text"], answer.json()["task"]) == (PRESENT, "roc")
    assert answer.json()["slice"] == 2


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"box_ras": [0, 0, 0, 1]}, id="four numbers"),
        pytest.param({"box_ras": [0, 0, 0, 1, 1, 1e30]}, id="out of this world"),
        pytest.param({"box_ras": [500, 500, 500, 501, 501, 501]}, id="outside the volume"),
        pytest.param({"task": "poem"}, id="unknown task"),
        pytest.param({"plane": "up"}, id="unknown plane"),
    ],
)
def test_a_bad_box_is_refused(a_session, a_volume_id, fields):
    body = {"volume_id": a_volume_id, "box_ras": [2, 2, 3, 8, 8, 9]} | fields

    assert_refused(a_session.post("/bird/v1/refer", json=body), 422, "bad_request")


def test_a_question_about_a_slice_is_answered(a_session, a_volume_id, a_model):
    body = {"volume_id": a_volume_id, "question": "Is it large?", "plane": "sagittal", "slice": 3}

    answer = a_session.post("/bird/v1/ask", json=body | {"window": [40, 400]})

    assert answer.json() == {
        "model": "scripted",
        "text": "an answer about slice 3",
        "score": 0.7,
        "slice": 3,
        "plane": "sagittal",
    }
    assert a_model.asked == [("Is it large?", (40.0, 400.0))]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"slice": 99}, id="no such slice"),
        pytest.param({"slice": -1}, id="negative slice"),
        pytest.param({"question": ""}, id="empty question"),
        pytest.param({"question": "x" * 5001}, id="endless question"),
        pytest.param({"plane": "up"}, id="unknown plane"),
    ],
)
def test_a_bad_question_in_words_is_refused(a_session, a_volume_id, fields):
    body = {"volume_id": a_volume_id, "question": "What?", "slice": 1} | fields

    assert_refused(a_session.post("/bird/v1/ask", json=body), 422, "bad_request")
