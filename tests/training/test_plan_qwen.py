"""Plans for Qwen2.5-VL and Qwen3-VL: the published sizes, and a picture counted as it is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)

from bird_training.tuning.devices import DEVICES, GIB
from bird_training.tuning.plan import DataSize, make_plan
from bird_training.tuning.recipe import load_recipe
from bird_training.tuning.simulation import (
    _attention_backward_flops,
    _attention_flops,
    simulate,
    sizes_of,
)
from bird_vlm.catalogue.known import known_model
from tiny_qwen import QWENS, a_start, save_tiny

H100 = DEVICES["H100"]


def qwen3_vl(hidden: int, layers: int, heads: int, inner: int, tied: bool, tower: dict) -> dict:
    """As published; what is left out is transformers' default."""
    text = {
        "vocab_size": 151936,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": inner,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
    }
    vision = {"out_hidden_size": hidden, **tower}
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied}


def qwen25_vl(hidden: int, layers: int, heads: int, groups: int, inner: int, words: int) -> dict:
    text = {
        "vocab_size": words,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": inner,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [16, 24, 24],
        },
    }
    vision = {"hidden_size": 1280, "out_hidden_size": hidden}
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": hidden == 2048}


SMALL_TOWER = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "deepstack_visual_indexes": [5, 11, 17],
}
PUBLISHED = {
    "qwen3-vl-2b": Qwen3VLConfig(**qwen3_vl(2048, 28, 16, 6144, True, SMALL_TOWER)),
    "qwen3-vl-4b": Qwen3VLConfig(**qwen3_vl(2560, 36, 32, 9728, True, SMALL_TOWER)),
    "qwen3-vl-8b": Qwen3VLConfig(**qwen3_vl(4096, 36, 32, 12288, False, {})),
    "qwen2.5-vl-3b": Qwen2_5_VLConfig(**qwen25_vl(2048, 36, 16, 2, 11008, 151936)),
    "qwen2.5-vl-7b": Qwen2_5_VLConfig(**qwen25_vl(3584, 28, 28, 4, 18944, 152064)),
}


@pytest.fixture(scope="module", params=QWENS)
def a_config(request, tmp_path_factory) -> PreTrainedConfig:
    folder = save_tiny(request.param, tmp_path_factory.mktemp("tiny") / "model")
    return AutoConfig.from_pretrained(folder)


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_have_the_parameters_of_their_cards(name):
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(PUBLISHED[name])
    sizes = sizes_of(network)
    assert sizes.parameters == known_model(name).parameters
    assert sum(sizes.by_part.values()) == sizes.parameters
    assert sizes.by_part["bridge"] > 0
    layer = network.model.language_model.layers[0]
    assert sizes.unit == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("family", QWENS)
@pytest.mark.parametrize("recipe", ["paper", "mini"], ids=["frozen-tower", "all"])
def test_a_pictures_arithmetic_is_what_a_real_one_takes(tmp_path, family, recipe):
    start = a_start(family, tmp_path / "model")
    chosen = load_recipe(recipe, {"gradient_checkpointing": False, "compute": "float32"})
    side = 8 * start.reader.side
    pixels = start.reader.pixels([np.zeros((side, side), dtype=np.uint8)])
    said = simulate(start.network.config, replace(chosen, tokens=64), picture_tokens=64)

    tower = start.network.model.visual
    if recipe == "paper":
        tower.requires_grad_(False)
        tower.merger.requires_grad_(True)
        for merger in getattr(tower, "deepstack_merger_list", ()):
            merger.requires_grad_(True)
    aten = torch.ops.aten
    formulas = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counted:
        seen = start.network.model.get_image_features(**pixels)
        features = [
            *seen.pooler_output,
            *(f for fs in seen.get("deepstack_features", ()) for f in fs),
        ]
        torch.cat(features).sum().backward()
    assert counted.get_total_flops() == pytest.approx(said.picture_flops, rel=1e-6)


def test_larger_pictures_take_more_and_text_does_not_care(a_config):
    recipe = load_recipe("lora", {"tokens": 128})
    small, large = (simulate(a_config, recipe, picture_tokens=n) for n in (64, 256))
    assert large.picture_flops > 4 * small.picture_flops * 0.99
    assert large.picture_bytes > small.picture_bytes
    assert large.text_flops == small.text_flops


def test_adapters_need_less_than_the_whole_model(a_config):
    data = DataSize(sequences=64, pictures=3.0, picture_tokens=64)
    whole = make_plan(a_config, load_recipe("paper", {"tokens": 128}), data, 4, H100)
    lora = load_recipe("lora", {"tokens": 128, "lora_rank": 2})
    part = make_plan(a_config, lora, data, 4, H100)
    assert part.gradients < whole.gradients
    assert part.disk.checkpoint < whole.disk.checkpoint
    shards = make_plan(
        a_config, load_recipe("paper", {"tokens": 128}), data, 4, H100, spread="shards"
    )
    assert shards.weights == whole.weights / 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3-vl-8b", "qwen2.5-vl-7b"])
def test_eight_billion_fit_on_one_gpu_with_adapters(name):
    data = DataSize(sequences=1280, pictures=6.0, picture_tokens=256)
    plan = make_plan(PUBLISHED[name], load_recipe("lora"), data, 1, H100)
    assert plan.per_device < H100.memory_gib * GIB
    forwards = 2 * 2048 * known_model(name).parameters
    assert forwards < plan.simulation.text_flops < 5 * forwards
