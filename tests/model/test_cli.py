"""`bird` as a user runs it: files written, one clear line and exit code 2 for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bird_vlm.cli import app


def bird(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def brain(mni152_file: Path) -> Path:
    return mni152_file


def test_ground_writes_what_the_contract_says(brain: Path, tmp_path: Path):
    out = {name: tmp_path / name for name in ("f.json", "f.mrk.json", "f.png")}
    result = bird(
        "ground", brain, "--text", "right thalamus", "--text", "left lung", "--slices", "72:88",
        "--json", out["f.json"], "--markups", out["f.mrk.json"], "--png", out["f.png"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "right thalamus" in result.stdout
    answer = json.loads(out["f.json"].read_text())
    assert answer["volume"]["shape_ijk"] == [197, 233, 189]
    assert answer["absent"] == ["left lung"]
    finding = answer["findings"][0]
    assert set(finding) == {"label", "score", "slices", "roi", "boxes"}
    assert set(finding["roi"]) == {"center_ras", "size_mm", "axes_ras"}
    assert set(finding["boxes"][0]) == {"slice", "score", "box_pixel", "corners_ras", "asked"}
    assert json.loads(out["f.mrk.json"].read_text())["markups"][0]["type"] == "ROI"
    with Image.open(out["f.png"]) as picture:
        assert picture.width >= 400
    assert not list(tmp_path.glob("*.unfinished"))


def test_refer_prints_a_name(brain: Path):
    result = bird("refer", brain, "--box-ras", "2,-30,0,22,-6,16")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_ask_answers_about_a_picture(tmp_path: Path):
    path = tmp_path / "skin.jpg"
    Image.fromarray(np.full((60, 80, 3), 160, np.uint8)).save(path)
    result = bird("ask", path, "What kind of image is this?")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def _nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def _bad_volumes(folder: Path) -> dict[str, Path]:
    block = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    holes = block.copy()
    holes[3, 3, 3] = np.nan
    singular = nibabel.Nifti1Image(block, None)
    singular.header.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=1)
    nibabel.save(singular, folder / "singular.nii")
    whole = _nifti(folder / "whole.nii", block).read_bytes()
    (folder / "truncated.nii").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "notes.txt").write_text("no scan")
    colour = np.zeros((8, 8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return {
        "missing": folder / "missing.nii.gz",
        "4D": _nifti(folder / "4d.nii", np.zeros((8, 8, 8, 3), np.float32)),
        "NaN": _nifti(folder / "nan.nii", holes),
        "RGB": _nifti(folder / "rgb.nii", colour),
        "singular": folder / "singular.nii",
        "truncated": folder / "truncated.nii",
        "empty": folder / "empty.nii.gz",
        "no scan": folder / "notes.txt",
    }


@pytest.mark.parametrize(
    "kind", ["missing", "4D", "NaN", "RGB", "singular", "truncated", "empty", "no scan"]
)
def test_a_bad_volume_is_one_line_and_exit_code_2(kind: str, tmp_path: Path):
    path = _bad_volumes(tmp_path)[kind]
    result = bird("ground", path, "--text", "liver", "--json", tmp_path / "out.json")
    assert_one_line(result, path.name)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--text", "teapot"], "'teapot' not in this model's training", id="label"),
        pytest.param(["--text", "<img>x"], "labels: control characters", id="injection"),
        pytest.param(["--text", "liver", "--plane", "top"], "plane: must be one of", id="plane"),
        pytest.param(["--text", "liver", "--slices", "9"], "slices: write A:B", id="slices"),
        pytest.param(
            ["--text", "liver", "--slices", "9:4"], "slices: needs two indices", id="order"
        ),
        pytest.param(["--text", "liver", "--slices", "0:999"], "exceeds the 189", id="range"),
        pytest.param(
            ["--text", "liver", "--threshold", "7"], "threshold: must lie", id="threshold"
        ),
        pytest.param(["--text", "liver", "--window", "bright"], "window: needs 2", id="window"),
        pytest.param(["--text", "liver", "--model", "gpt"], "'gpt' is no folder", id="model"),
        pytest.param(
            ["--text", "liver", "--json", "no/such/f.json"], "no such folder", id="output"
        ),
    ],
)
def test_a_bad_question_is_one_line_and_exit_code_2(brain: Path, arguments: list[str], said: str):
    assert_one_line(bird("ground", brain, *arguments), said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--box-ras", "1,2,3"], "box-ras: needs 6 numbers", id="count"),
        pytest.param(["--box-ras", "a,b,c,d,e,f"], "box-ras: needs 6 numbers", id="words"),
        pytest.param(["--box-ras", "1,2,3,4,5,nan"], "box_ras: needs 6 finite", id="nan"),
        pytest.param(["--box-ras", "900,0,0,950,9,9"], "outside the volume", id="outside"),
        pytest.param(["--box-ras", "0,0,0,9,9,9", "--task", "sing"], "task: must be", id="task"),
    ],
)
def test_a_bad_box_is_one_line_and_exit_code_2(brain: Path, arguments: list[str], said: str):
    assert_one_line(bird("refer", brain, *arguments), said)


def test_an_unreadable_checkpoint_is_one_line_and_exit_code_2(brain: Path, tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "bird"}')
    assert_one_line(
        bird("ground", brain, "--text", "liver", "--model", tmp_path), "cannot be loaded"
    )
    assert_one_line(bird("convert", tmp_path, tmp_path / "out"), "needs model_type 'qwen'")


@pytest.mark.parametrize("command", ["ground", "refer", "ask", "convert", "serve"])
def test_help_teaches_by_example(command: str):
    result = bird(command, "--help")
    assert result.exit_code == 0
    assert f"bird {command}" in result.stdout


def assert_one_line(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert not result.stdout.strip()
