"""What a training will take: counts as the model has them, arithmetic as the hardware does it."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bird_training.tuning.devices import DEVICES, GIB, parse_devices
from bird_training.tuning.plan import DataSize, check_disk, disk_use, make_plan, plan_table
from bird_training.tuning.recipe import load_recipe
from bird_training.tuning.simulation import simulate, sizes_of
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import BirdError
from bird_vlm.layouts import config_from_original
from bird_vlm.modeling_bird import BirdForConditionalGeneration

H100 = DEVICES["H100"]
DATA = DataSize(sequences=1280, pictures=6.0)

# Trains on random tokens and prints the bytes that a step takes beside the model itself.
MEASURE = """
import sys, torch
from pathlib import Path
from bird_training.tuning.adapters import prepare_model
from bird_training.tuning.recipe import load_recipe
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.modeling_bird import BirdForConditionalGeneration
recipe = load_recipe("mini", {"tokens": 512})
model = prepare_model(BirdForConditionalGeneration(BirdConfig.from_pretrained(sys.argv[1])), recipe)
size = model.config.vision_config.image_size
def step(sequences):
    ids = torch.randint(0, 600, (sequences, 512))
    mask = torch.ones(sequences, 1, 512, 512, dtype=torch.bool).tril()
    features = model.get_image_features(torch.randn(sequences, 3, size, size))
    model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward(retain_graph=True)
    features.sum().backward()
step(1)
def peak():  # of this program; getrusage's would be the parent's, where that is higher
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
before = peak()
step(int(sys.argv[2]))
print(peak() - before)
"""


@pytest.fixture(scope="module")
def the_full_config(shared) -> BirdConfig:
    path = shared / "golden" / "qwen_vl_chat_files" / "config.json"
    return config_from_original(json.loads(path.read_text()))


@pytest.fixture(scope="module")
def mini_folder() -> Path:
    from bird_vlm.catalogue.installed import WEIGHTS

    return WEIGHTS / "bird-mini"


@pytest.fixture(scope="module")
def mini_config(mini_folder) -> BirdConfig:
    return BirdConfig.from_pretrained(mini_folder)


@pytest.mark.shared
def test_the_full_model_has_the_parameters_of_the_original(the_full_config, shared):
    with torch.device("meta"):
        model = BirdForConditionalGeneration(the_full_config)
    index = shared / "golden" / "qwen_vl_chat_files" / "pytorch_model.bin.index.json"
    stored = json.loads(index.read_text())["metadata"]["total_size"]  # in two bytes each
    sizes = sizes_of(model)
    assert sizes.parameters == 9_656_935_168 == stored // 2
    assert sum(sizes.by_part.values()) == sizes.parameters
    assert sizes.unit == sum(p.numel() for p in model.model.language_model.layers[0].parameters())


@pytest.mark.slow
@pytest.mark.shared
def test_the_full_models_arithmetic_is_what_the_hardware_does(the_full_config):
    """Known from the architecture: 3.82 TFLOP for 293 prompt tokens, 4.22 per picture, forwards."""
    recipe = load_recipe("paper", {"tokens": 293, "gradient_checkpointing": False})
    step = simulate(the_full_config, recipe)
    head = 293 * 2 * 151936 * 4096  # in training every token has logits
    assert step.text_flops == pytest.approx(3 * (3.82e12 + head), rel=0.02)
    assert 4.22e12 < step.picture_flops < 1.1 * 4.22e12  # only the resampler learns


@pytest.mark.slow
@pytest.mark.shared
def test_the_papers_run_fits_on_eight_gpus_when_sharded(the_full_config):
    recipe = load_recipe("paper")
    shards = make_plan(the_full_config, recipe, DATA, 8, H100, spread="shards")
    assert shards.per_device < H100.memory_gib * GIB
    assert shards.weights == 4 * 9_656_935_168 / 8
    trained = shards.simulation.sizes.trained
    assert 7.7e9 < trained < 7.9e9  # the language model and the resampler
    assert (shards.gradients, shards.optimizer) == (4 * trained / 8, 8 * trained / 8)
    assert shards.weights * 8 + 12 * trained > H100.memory_gib * GIB  # and not on each


def test_time_follows_from_arithmetic_and_devices(mini_config):
    recipe = load_recipe("mini", {"epochs": 2})
    one = make_plan(mini_config, recipe, DATA, 1, H100, mfu=0.5)
    assert one.steps == 2 * 1280 // 16
    assert one.flops == 2 * 1280 * one.simulation.flops(6.0)
    assert one.seconds == pytest.approx(one.flops / (0.5 * 989e12))
    four = make_plan(mini_config, recipe, DATA, 4, H100, mfu=0.5)
    assert four.seconds == pytest.approx(one.seconds / 4)


def test_checkpointing_trades_memory_for_arithmetic(mini_config):
    kept = simulate(mini_config, load_recipe("mini"))
    again = simulate(mini_config, load_recipe("mini", {"gradient_checkpointing": True}))
    assert again.text_bytes < kept.text_bytes
    assert again.text_flops > kept.text_flops


def test_frozen_parts_cost_no_gradients(mini_config):
    learning = simulate(mini_config, load_recipe("mini"))
    frozen = simulate(mini_config, load_recipe("mini", {"frozen": ["model.vision_tower"]}))
    assert frozen.picture_flops == pytest.approx(learning.picture_flops / 3, rel=0.05)
    assert frozen.sizes.trained < learning.sizes.trained
    assert frozen.sizes.parameters == learning.sizes.parameters


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's /proc")
def test_memory_is_what_a_run_takes(mini_folder, mini_config):
    """Within a factor of 1.5: the allocator keeps some of what it was given back."""
    sequences = 12
    step = simulate(mini_config, load_recipe("mini", {"tokens": 512}))
    said = step.activations(sequences, 1)
    command = [sys.executable, "-c", MEASURE, str(mini_folder), str(sequences)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert said / 1.5 < int(run.stdout) < said * 1.5


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        pytest.param("8xH100", 8, "H100", id="eight"),
        pytest.param("h100", 1, "H100", id="one"),
        pytest.param("4 x A100-40G", 4, "A100-40G", id="forty"),
        pytest.param("a100", 1, "A100-80G", id="alias"),
    ],
)
def test_devices_are_written_as_people_do(text, count, name):
    assert parse_devices(text) == (count, DEVICES[name])


@pytest.mark.parametrize("text", ["", "8", "8xTPU", "0xH100", "H100x8"])
def test_unknown_devices_are_refused(text):
    with pytest.raises(BirdError, match="write 8xH100"):
        parse_devices(text)


def test_a_disk_that_is_too_small_is_refused(tmp_path, mini_config):
    with torch.device("meta"):
        sizes = sizes_of(BirdForConditionalGeneration(mini_config))
    use = disk_use(sizes, load_recipe("mini"))
    assert use.checkpoint == 4 * (sizes.parameters + 2 * sizes.trained)
    assert use.result == 2 * sizes.parameters  # in half precision
    assert use.most == 3 * use.checkpoint + use.result
    check_disk(use, tmp_path / "not" / "made" / "yet")
    many = disk_use(sizes, load_recipe("mini", {"keep": 10_000_000}))
    with pytest.raises(BirdError, match="are free at"):
        check_disk(many, tmp_path / "run")


def test_the_table_tells_whether_it_fits(mini_config):
    plan = make_plan(mini_config, load_recipe("mini"), DATA, 2, H100)
    console = Console(width=100, record=True, file=StringIO())
    console.print(plan_table(plan, 2, H100, "copies"))
    text = console.export_text()
    assert f"{plan.simulation.sizes.parameters:,}" in text
    assert "fits 80 GiB" in text
    assert "for 240 steps" in text
