"""Objects that are not there: who draws them, who refuses what is there."""

from __future__ import annotations

import pytest

from bird_training.evaluation.hallucination import Presence, hallucination
from bird_training.evaluation.metrics import Reading
from bird_training.evaluation.predictions import Prediction
from bird_vlm.grammar import format_absent, format_present

THERE, GONE = format_present("liver", ((1, 2, 3, 4),)), format_absent("liver")


def asked(annotation: str, response: str, modality: str = "ct") -> Prediction:
    return Prediction("1", "a.png", "Where?", annotation, response, modality)


def report(*predictions: Prediction) -> dict | None:
    return hallucination(predictions, Reading())


def test_counts_by_hand():
    found = report(
        *[asked(THERE, THERE)] * 3,
        asked(THERE, GONE),
        asked(THERE, ""),
        asked(GONE, GONE),
        asked(GONE, THERE),
        asked(GONE, "<ref>liver</ref><box>(1,2)</box>"),
        asked(GONE, "A fine picture."),
    )
    counts = found["all"]["per_modality"]["ct"]
    assert (counts["asked_present"], counts["drawn_present"], counts["refused_present"]) == (
        5,
        3,
        1,
    )
    assert (counts["asked_absent"], counts["drawn_absent"], counts["refused_absent"]) == (4, 2, 1)
    assert (counts["false_refusal"], counts["absent_refused"]) == (0.2, 0.25)
    assert found["balanced"]["questions"] == 8


def test_quality_takes_present_as_positive():
    quality = Presence(10, 8, 1, 10, 4, 6).quality()
    assert quality == {
        "accuracy": pytest.approx(14 / 20),
        "precision": pytest.approx(8 / 12),
        "recall": pytest.approx(8 / 10),
        "f1": pytest.approx(16 / 22),
    }
    assert Presence().quality() == dict.fromkeys(quality)


def test_a_model_that_always_draws_gets_half():
    found = report(*[asked(THERE, THERE)] * 30, *[asked(GONE, THERE)] * 5)
    assert (found["balanced"]["questions"], found["balanced"]["accuracy"]) == (10, 0.5)


def test_each_modality_is_balanced_for_itself():
    found = report(
        *[asked(THERE, THERE, "ct")] * 9,
        asked(GONE, GONE, "ct"),
        *[asked(GONE, THERE, "mr")] * 9,
        asked(THERE, THERE, "mr"),
        asked(THERE, THERE, "pet"),
    )
    assert found["balanced"]["questions"] == 4
    assert found["balanced"]["accuracy_per_modality"] == {"ct": 1.0, "mr": 0.5}
    assert found["all"]["mean"]["absent_refused"] == 0.5
    assert found["all"]["per_modality"]["pet"]["absent_refused"] is None


def test_the_choice_hangs_on_the_seed():
    predictions = [asked(THERE, THERE if n % 3 else GONE) for n in range(40)] + [
        asked(GONE, GONE) for _ in range(6)
    ]
    found = [hallucination(predictions, Reading(), seed)["balanced"] for seed in (0, 0, 1, 2, 3)]
    assert found[0] == found[1]
    assert len({one["recall"] for one in found}) > 1


def test_without_absent_objects_there_is_nothing_to_report():
    assert report(asked(THERE, THERE), asked("something else", THERE)) is None
    assert report() is None
