"""The benchmarks of speed run, and what they report is what they did; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import pytest

from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.volumes import Volume

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SLICES = range(60, 84)


@pytest.fixture(scope="module")
def a_slab_of_the_brain(mni152: Volume, tmp_path_factory) -> Path:
    """24 axial slices around the thalamus."""
    path = tmp_path_factory.mktemp("slab") / "slab.nii.gz"
    array = mni152.array[:, :, SLICES.start : SLICES.stop]
    nibabel.save(nibabel.Nifti1Image(array, mni152.ijk_to_ras), path)
    return path


@pytest.fixture
def numbers_of(tmp_path):
    """Runs a benchmark; what it wrote as JSON."""

    def run(script: str, *arguments: object) -> dict:
        out = tmp_path / "numbers.json"
        command = [sys.executable, BENCHMARKS / script, *map(str, arguments), "--json", out]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr
        return json.loads(out.read_text())

    return run


def test_the_ways_to_ask_are_measured_side_by_side(numbers_of, a_slab_of_the_brain):
    labels = "left thalamus,right thalamus,liver"
    numbers = numbers_of(
        "volume_grounding.py", a_slab_of_the_brain, "--labels", labels, "--repeats", 1
    )
    plain, first, second, many, coarse = numbers["rows"]
    assert plain["pairs"] == first["pairs"] == second["pairs"] == numbers["answers"] == len(SLICES)
    assert many["pairs"] == 3 * len(SLICES)
    assert coarse["pairs"] <= len(SLICES) / 3
    for row in numbers["rows"]:
        assert row["factor"] == pytest.approx(plain["seconds"] / row["seconds"] * row["labels"])
    assert numbers["first_box_s"] > 0
    assert numbers["precision"] == "float32"


def test_a_size_without_weights_is_timed(numbers_of, a_slab_of_the_brain, tmp_path):
    config = BirdConfig(
        vision_config={
            **{"image_size": 56, "patch_size": 14, "hidden_size": 24, "num_hidden_layers": 1},
            **{"num_attention_heads": 2, "intermediate_size": 48, "position_grid": 2},
            **{"output_dim": 32, "num_queries": 16, "resampler_heads": 4},
        },
        text_config={
            **{"vocab_size": 480, "hidden_size": 32, "intermediate_size": 48},
            **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        },
    )
    config.save_pretrained(tmp_path)
    numbers = numbers_of(
        *("volume_grounding.py", a_slab_of_the_brain, "--labels", "liver,spleen"),
        *("--random-weights", tmp_path / "config.json", "--repeats", 1),
    )
    assert [row["pairs"] for row in numbers["rows"][:3]] == [len(SLICES)] * 3


def test_the_plain_and_the_fast_way_are_compared(numbers_of, a_slab_of_the_brain):
    numbers = numbers_of(
        "same_answers.py", a_slab_of_the_brain, "--labels", "left thalamus,right thalamus"
    )
    [volume] = numbers["volumes"]
    assert (volume["slices"], volume["labels"]) == (len(SLICES), 2)
    assert len(volume["different"]) <= 1  # a tie, which another machine may break otherwise
    assert max(volume["asked"]) <= 1 / 3
    assert len(volume["roi_iou"] + volume["thin_iou"]) >= 2


def test_the_floor_counts_what_a_config_needs(numbers_of):
    numbers = numbers_of("floor.py", "--slices", 64, "--tflops", 1, "--gbs", 10)
    encode, read, write = numbers["phases"]
    assert encode["tflop"] > read["tflop"] > write["tflop"] > 0
    for phase in numbers["phases"]:
        assert phase["floor_s"] == pytest.approx(max(phase["tflop"], phase["gb"] / 10))
