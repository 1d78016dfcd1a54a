"""`bird preannotate`: a run that goes on asks what is missing, and nothing twice."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from bird_vlm.preannotation.cases import Case
from preannotating import LABELS, ask, index_of, out_of, outputs, rows_of, save_noise, share


@pytest.fixture(autouse=True)
def one_model_for_all(bird_mini, monkeypatch) -> None:
    share(bird_mini, monkeypatch)


@pytest.fixture
def unbroken(the_annotated_ward) -> dict[str, bytes | object]:
    """What a run leaves that nothing interrupts."""
    return outputs(out_of(the_annotated_ward))


@pytest.mark.parametrize("after", [1, 4, 9])
def test_an_interruption_changes_nothing(a_ward, unbroken, after, bird_mini, monkeypatch):
    """Ctrl-C in the middle of a case, wherever that is."""
    encode, calls = bird_mini.encode, []

    def interrupt(pictures):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return encode(pictures)

    with monkeypatch.context() as patch:
        patch.setattr(bird_mini, "encode", interrupt)
        result = ask(a_ward, *LABELS)
    assert result.exit_code == 130
    assert "the same command goes on" in result.output
    assert index_of(out_of(a_ward))["counts"]["pending"] > 0  # what is done can be seen
    assert ask(a_ward, *LABELS).exit_code == 1
    assert outputs(out_of(a_ward)) == unbroken


def test_what_is_done_is_not_asked_again(an_annotated_ward, bird_mini, monkeypatch):
    before = outputs(out_of(an_annotated_ward))
    monkeypatch.setattr("bird_vlm.engine.load_engine", lambda *_: pytest.fail("loaded"))
    assert ask(an_annotated_ward, *LABELS).exit_code == 1
    assert outputs(out_of(an_annotated_ward)) == before


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: (folder / "case.json").unlink(), id="no record"),
        pytest.param(lambda folder: (folder / "case.json").write_text("{"), id="half a record"),
        pytest.param(lambda folder: (folder / "result.json").unlink(), id="no result"),
        pytest.param(lambda folder: (folder / "left.unfinished").touch(), id="rubbish"),
    ],
)
def test_half_a_case_is_asked_again(spoil, an_annotated_ward, unbroken):
    folder = out_of(an_annotated_ward) / "cases" / Case("a/scan.nii.gz", ()).folder
    spoil(folder)
    if (folder / "left.unfinished").exists():
        (folder / "case.json").unlink()
    result = ask(an_annotated_ward, *LABELS)
    assert "[1/1] a/scan.nii.gz" in result.output
    assert outputs(out_of(an_annotated_ward)) == unbroken


def test_a_scan_that_changed_or_came_is_asked(an_annotated_ward):
    save_noise(an_annotated_ward / "a/scan.nii.gz", 77)
    save_noise(an_annotated_ward / "new.nii.gz", 78)
    (an_annotated_ward / "skin.jpg").unlink()
    result = ask(an_annotated_ward, *LABELS)
    assert re.findall(r"\] (\S+):", result.output) == ["a/scan.nii.gz", "new.nii.gz"]
    assert "skin.jpg" not in rows_of(out_of(an_annotated_ward))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(("--label", "liver"), "labels: now without 'brain stem'", id="fewer"),
        pytest.param((*LABELS, "--label", "spleen"), "now with 'spleen'", id="more"),
        pytest.param(LABELS[2:] + LABELS[:2], "in another order", id="order"),
        pytest.param((*LABELS, "--coarse"), "search: exhaustive, now coarse", id="search"),
        pytest.param((*LABELS, "--plane", "coronal"), "plane: axial, now coronal", id="plane"),
        pytest.param((*LABELS, "--threshold", ".4"), "threshold: 0.5, now 0.4", id="threshold"),
        pytest.param((*LABELS, "--precision", "bfloat16"), "precision: auto", id="precision"),
    ],
)
def test_another_question_is_refused_and_changes_nothing(changed, message, an_annotated_ward):
    before = outputs(out_of(an_annotated_ward))
    result = ask(an_annotated_ward, *changed)
    assert result.exit_code == 2
    assert message in result.output
    assert "--again" in result.output
    assert outputs(out_of(an_annotated_ward)) == before


def test_another_model_is_refused_though_its_name_is_the_same(a_ward, tmp_path):
    from bird_vlm.catalogue.installed import shipped_folder

    model = Path(shutil.copytree(shipped_folder("bird-mini"), tmp_path / "model"))
    for path in a_ward.glob("*/*"):
        path.unlink()
    ask(a_ward, *LABELS, "--model", model)
    weights = model / "model.safetensors"
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1  # one bit of the weights
    weights.write_bytes(data)
    result = ask(a_ward, *LABELS, "--model", model)
    assert result.exit_code == 2
    assert "holds answers to other model (weights)" in result.output


def test_again_asks_everything_and_leaves_nothing_old(a_ward, unbroken):
    save_noise(a_ward / "gone.nii.gz", 3)
    ask(a_ward, "--label", "spleen")
    (a_ward / "gone.nii.gz").unlink()
    ask(a_ward, *LABELS, "--again")
    assert outputs(out_of(a_ward)) == unbroken


def test_an_expectation_may_change_without_asking_again(an_annotated_ward):
    named = ("--label", "liver expected a/*", "--label", "brain stem")
    result = ask(an_annotated_ward, *named)
    assert result.exit_code == 1
    assert "[1/" not in result.output
    flagged = [name for name, row in rows_of(out_of(an_annotated_ward)).items() if row["missing"]]
    assert set(flagged) <= {"a/scan.nii.gz"}


def test_an_expectation_that_fits_no_case_is_told(a_ward):
    result = ask(a_ward, "--label", "liver expected abdomn/*")
    assert "'abdomn/*', which is the name of no case" in result.output
