"""Tables in the paper's shape, and plots that show what the tables say."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from bird_training.evaluation.tables import (
    absence_by_modality,
    absence_table,
    measured,
    table_1,
    table_3,
    value_rows,
)
from bird_training.evaluation.tables_files import write_tables
from bird_training.evaluation.tables_paper import TABLE_1, TABLE_3
from bird_training.evaluation.tables_plots import size_in


def a_report(shift: float = 0.0, spice: bool = False) -> dict:
    """A report by hand: CT and PET, no ROC on PET."""

    def recall(ct: float, **others: float) -> dict:
        values = {"ct": ct + shift} | others
        spans = {name: [value - 0.1, value + 0.1] for name, value in values.items()}
        mean = sum(values.values()) / len(values)
        return {"recall": values, "mean": mean, "interval": {"recall": spans, "mean": [0.3, 0.6]}}

    def texts(ct: float, pet: float) -> dict:
        metrics = {"ct": {"ROUGE_L": ct}, "pet": {"ROUGE_L": pet}}
        if spice:
            metrics = {name: found | {"SPICE": 0.2} for name, found in metrics.items()}
        return {
            "per_modality": metrics,
            "mean": {"ROUGE_L": (ct + pet) / 2} | ({"SPICE": 0.2} if spice else {}),
            "mBMR": (ct + pet) / 2,
            "mBMR_per_modality": {"ct": ct, "pet": pet},
        }

    return {
        "VG": recall(0.5, pet=0.25),
        "ROC": recall(0.75),
        "RC": texts(0.4, 0.6),
        "MIA": texts(0.1, 0.3),
        "left_out": {},
    }


def test_table_3_has_tasks_and_modalities():
    table = table_3(a_report(), "mini")
    assert table.columns == ("Task", "Metric", "CT", "PET", "Average")
    assert table.rows == (
        ("VG", "Recall@0.5", 50.0, 25.0, "37.50 (30.0 to 60.0)"),
        ("ROC", "Recall", 75.0, None, "75.00 (30.0 to 60.0)"),
        ("RC", "mBMR*", 40.0, 60.0, "50.00"),
        ("MIA", "mBMR", 10.0, 30.0, "20.00"),
    )
    assert "SPICE was not measured" in table.notes[0]


def test_with_spice_nothing_is_starred():
    report = a_report(spice=True)
    assert measured(report, "RC").metric == "SPICE"
    assert measured(report, "MIA").metric == "mBMR"
    assert table_3(report, "mini").notes == ()
    assert table_1({"mini": report}).rows[0][4] == 20.0


def test_table_1_has_models_and_their_average():
    table = table_1(
        {"10%": a_report() | {"test_set": "mini/test"}, "half": {"VG": a_report()["VG"]}}
    )
    assert table.rows[0] == ("10%", "mini/test", 37.5, 75.0, "50.00*", 20.0, "45.62*")
    assert table.rows[1] == ("half", None, 37.5, None, None, None, None)


def test_published_rows_stand_beside_ours():
    first = table_1({"mini": a_report()}, paper=True).rows
    assert len(first) == len(TABLE_1) + 1
    assert first[4] == (
        *("BiRD-Med-GRIT-270k (paper)", "Med-GRIT-Test30k"),
        *(53.92, 65.33, 55.23, 52.17, 56.66),
    )
    third = table_3(a_report(), "mini", paper=True)
    assert third.columns[2:] == (
        *("CT", "MR", "X-ray", "PET", "Endoscopy", "Dermoscopy", "Fundus", "Ultrasound"),
        "Average",
    )
    assert [row[0] for row in third.rows][:4] == ["VG", "VG (paper)", "ROC", "ROC (paper)"]
    assert third.rows[3][2:] == TABLE_3["ROC"]


@pytest.mark.parametrize("task", TABLE_3)
def test_published_averages_are_the_means_of_their_rows(task):
    *values, average = TABLE_3[task]
    assert np.mean([v for v in values if v is not None]) == pytest.approx(average, abs=0.011)


def test_markdown_and_csv_hold_the_same_cells():
    table = table_1({"10%": a_report(), "a|b": a_report()})
    lines = table.markdown().splitlines()
    assert lines[2].startswith("|Model|Test set|VG (Recall@0.5)|")
    assert lines[4] == "|10%|-|37.50|75.00|50.00*|20.00|45.62*|"
    assert lines[5].startswith("|a\\|b|")
    rows = list(csv.reader(table.csv().splitlines()))
    assert rows[1] == ["10%", "", "37.5", "75.0", "50.00*", "20.0", "45.62*"]


def test_every_value_has_its_interval():
    rows = value_rows({"mini": a_report()}).rows
    assert ("mini", "VG", "Recall@0.5", "pet", 25.0, 15.0, 35.0) in rows
    assert ("mini", "VG", "Recall@0.5", "mean", 37.5, 30.0, 60.0) in rows
    assert ("mini", "MIA", "mBMR", "pet", 30.0, None, None) in rows


def test_absent_objects_have_a_table_where_there_are_any():
    assert absence_table({"mini": a_report()}) is None
    assert absence_by_modality(a_report(), "mini") is None
    quality = {"accuracy": 0.9, "f1": 0.8, "precision": 0.7, "recall": 1.0}
    rates = {"absent_refused": 0.95, "false_refusal": None}
    by_modality = {"pet": rates, "ct": {"absent_refused": 0.5, "false_refusal": 0.1}}
    found = {
        "balanced": {"questions": 40, "accuracy_per_modality": {"ct": 0.9}} | quality,
        "all": {"mean": rates, "per_modality": by_modality},
    }
    report = a_report() | {"hallucination": found}
    table = absence_table({"mini": report})
    assert table.rows == (("mini", "40", 90.0, 80.0, 70.0, 100.0, 95.0, None),)
    table = absence_by_modality(report, "mini")
    assert table.columns == ("Absent objects", "CT", "PET", "Average")
    assert table.rows == (
        ("Accuracy, balanced", 90.0, None, 90.0),
        ("Absent refused", 50.0, 95.0, 72.5),
        ("False refusal", 10.0, None, 10.0),
    )


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("10%", (10.0, "%"), id="share"),
        pytest.param("bird-mini 2.5 %", (2.5, "%"), id="share-in-a-name"),
        pytest.param("BiRD-20K", (20.0, "k"), id="thousands"),
        pytest.param("bird-mini", None, id="none"),
        pytest.param("2kernels", None, id="no-size"),
    ],
)
def test_sizes_are_read_off_names(name, size):
    assert size_in(name) == size


def test_tables_and_plots_are_written(tmp_path):
    bins = [{"low": 0.9, "high": 1.0, "count": 3, "mean_score": 0.95, "share_true": 1.0}]
    calibration = {"VG": {"count": 3, "ece": 0.05, "brier": 0.01, "bins": bins}}
    reports = {
        "mini 10%": a_report(-0.2) | {"calibration": calibration},
        "mini 100%": a_report(0.1),
    }
    written = write_tables(reports, tmp_path / "tables", paper=True)
    names = {path.name for path in written}
    assert names == {path.name for path in (tmp_path / "tables").iterdir()}
    assert {"tables.md", "values.csv", "table_1.csv", "table_1.png"} <= names
    assert {"table_3_1_mini-10.png", "table_3_2_mini-100.csv", "calibration_1_mini-10.png"} <= names
    for path in written:
        if path.suffix == ".png":
            pixels = np.asarray(Image.open(path).convert("RGB"))
            colours = {tuple(c) for c in pixels[::3, ::3].reshape(-1, 3)}
            assert (0x1F, 0x6F, 0x8B) in colours, path  # VG's
    assert "### Models and data sizes" in (tmp_path / "tables" / "tables.md").read_text()


def test_one_model_needs_no_plot_of_models(tmp_path):
    names = {path.name for path in write_tables({"mini": a_report()}, tmp_path)}
    assert "table_3.png" in names
    assert "table_1.png" not in names
