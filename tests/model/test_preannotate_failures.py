"""`bird preannotate`: scans that cannot be answered, and questions that are refused."""

from __future__ import annotations

import pytest
from filelock import FileLock

from bird_vlm.preannotation.cases import Case
from preannotating import LABELS, ask, index_of, out_of, rows_of, save_noise, share


@pytest.fixture(autouse=True)
def one_model_for_all(bird_mini, monkeypatch) -> None:
    share(bird_mini, monkeypatch)


def test_one_bad_scan_does_not_stop_the_others(a_ward):
    result = ask(a_ward, *LABELS)
    assert result.exit_code == 1, result.output
    rows = rows_of(out_of(a_ward))
    assert [name for name, row in rows.items() if row["status"] == "failed"] == ["cut.nii.gz"]
    assert rows["cut.nii.gz"]["error"].startswith("cannot be read (")
    assert str(a_ward) not in rows["cut.nii.gz"]["error"]
    assert {row["status"] for name, row in rows.items() if name != "cut.nii.gz"} == {"done"}
    assert index_of(out_of(a_ward))["counts"]["failed"] == 1
    assert result.output.count("cut.nii.gz: ") == 2  # when it happened, and in the end


def test_a_failure_is_kept_until_it_is_asked_for_or_mended(an_annotated_ward):
    assert "[1/" not in ask(an_annotated_ward, *LABELS).output
    again = ask(an_annotated_ward, *LABELS, "--retry-failed")
    assert "[1/1] cut.nii.gz: failed" in again.output
    save_noise(an_annotated_ward / "cut.nii.gz", 9)
    mended = ask(an_annotated_ward, *LABELS)
    assert mended.exit_code == 0, mended.output
    assert "[1/1] cut.nii.gz: 0 findings" in mended.output


def test_a_scan_that_breaks_leaves_nothing_of_its_old_answer(an_annotated_ward):
    scan = an_annotated_ward / "a/scan.nii.gz"
    scan.write_bytes(b"broken")
    assert ask(an_annotated_ward, *LABELS).exit_code == 1
    row = rows_of(out_of(an_annotated_ward))["a/scan.nii.gz"]
    assert (row["status"], row["files"]) == ("failed", {})
    folder = out_of(an_annotated_ward) / "cases" / Case("a/scan.nii.gz", ()).folder
    assert [path.name for path in folder.iterdir()] == ["case.json"]


def test_what_nobody_foresaw_is_one_case_too(a_ward, bird_mini, monkeypatch, caplog):
    encode, calls = bird_mini.encode, []

    def fail_once(pictures):
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("nobody")
        return encode(pictures)

    monkeypatch.setattr(bird_mini, "encode", fail_once)
    assert ask(a_ward, *LABELS).exit_code == 1
    rows = rows_of(out_of(a_ward))
    [error] = [r["error"] for n, r in rows.items() if r["error"] and n != "cut.nii.gz"]
    assert "KeyError" in error
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((), "labels: give 1 to", id="no labels"),
        pytest.param(("--label", "unicorn"), "'unicorn' not in this model's", id="unknown"),
        pytest.param((*LABELS, "--plane", "oblique"), "plane: must be", id="plane"),
        pytest.param((*LABELS, "--threshold", "2"), "threshold: must", id="threshold"),
        pytest.param((*LABELS, "--model", "nothing"), "model: 'nothing' is no", id="model"),
        pytest.param((*LABELS, "--window", "x"), "window: needs", id="window"),
    ],
)
def test_a_wrong_question_is_refused_before_anything_is_written(arguments, message, a_ward):
    result = ask(a_ward, *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not out_of(a_ward).exists()


def test_a_folder_without_scans(tmp_path):
    (tmp_path / "notes.txt").touch()
    result = ask(tmp_path, *LABELS)
    assert result.exit_code == 2
    assert "holds no scans (1 things skipped)" in result.output


def test_results_never_mix_with_files_from_elsewhere(a_ward, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years of work")
    result = ask(a_ward, *LABELS, "--out", tmp_path / "full")
    assert result.exit_code == 2
    assert "holds files from elsewhere" in result.output
    assert (tmp_path / "full/thesis.txt").read_text() == "years of work"


def test_out_must_be_a_folder(a_ward, tmp_path):
    (tmp_path / "file").touch()
    result = ask(a_ward, *LABELS, "--out", tmp_path / "file/out")
    assert (result.exit_code, "--out" in result.output) == (2, True)


def test_two_runs_do_not_write_to_the_same_folder(a_ward):
    out_of(a_ward).mkdir(parents=True)
    with FileLock(out_of(a_ward) / ".lock"):
        result = ask(a_ward, *LABELS)
    assert result.exit_code == 2
    assert "another run writes to" in result.output
