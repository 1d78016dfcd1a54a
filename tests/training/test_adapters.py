"""What learns and what does not; adapters fold into plain weights that answer alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from bird_training.tuning.adapters import freeze, merge_folder, prepare_model
from bird_training.tuning.families import FAMILY_PARTS
from bird_training.tuning.recipe import Recipe, load_recipe
from bird_training.tuning.starting import load_network
from bird_vlm.errors import BirdError
from released_world import write_tiny_model
from small_world import TINY_QUERIES, TINY_SIZE
from tiny_qwen import a_start

LORA = Recipe(
    method="lora",
    lora_rank=4,
    lora_targets=load_recipe("lora").lora_targets,
    lora_saved=("attn_pool",),
    lora_dropout=0.0,
)


def trained(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_papers_recipe_trains_the_resampler_and_the_language_model(a_bird):
    prepare_model(a_bird, load_recipe("paper"))
    names = trained(a_bird)
    vision = {name for name in names if "vision_tower" in name}
    assert vision == {n for n, _ in a_bird.named_parameters() if ".attn_pool." in n}
    everything = {name for name, _ in a_bird.named_parameters()}
    assert everything - names == {n for n in everything if "vision_tower" in n} - vision
    assert "lm_head.weight" in names


@pytest.mark.parametrize(
    ("frozen", "kept", "words"),
    [
        pytest.param(["visual"], [], "no parameters 'visual'", id="unknown"),
        pytest.param(["model.vision_tower"], ["attn_pool"], "'attn_pool'", id="not-from-the-start"),
        pytest.param(["model.vision"], [], "no parameters 'model.vision'", id="half-a-name"),
        pytest.param(["model", "lm_head"], [], "nothing is left to train", id="all"),
    ],
)
def test_names_that_fit_nothing_are_refused(a_bird, frozen, kept, words):
    with pytest.raises(BirdError) as caught:
        freeze(a_bird, frozen, kept)
    assert words in str(caught.value)


def test_adapters_and_the_resampler_learn_in_float32(a_bird):
    model = prepare_model(a_bird.to(torch.bfloat16), LORA)
    names = trained(model)
    assert all("lora_" in name or "attn_pool.modules_to_save" in name for name in names)
    layers = a_bird.config.text_config.num_hidden_layers
    assert sum("lora_A" in name for name in names) == 7 * layers
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {dtypes[name] for name in names} == {torch.float32}
    assert {dtypes[name] for name in dtypes.keys() - names} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"lora_targets": "nothing"}, "fits no layer", id="targets"),
        pytest.param({"lora_saved": ("resampler",)}, "no module resampler", id="saved"),
    ],
)
def test_adapters_for_nothing_are_refused(a_bird, change, words):
    with pytest.raises(BirdError, match=words):
        prepare_model(a_bird, Recipe(**{**vars(LORA), **change}))


@dataclass
class Family:
    """A tiny model in a folder, and a question to it with a picture."""

    folder: Path
    bridge: set[str]  # its stored tensors
    question: dict[str, torch.Tensor]

    def load(self) -> PreTrainedModel:
        return load_network(self.folder, torch.float32).eval()


@pytest.fixture(scope="module", params=["bird", "qwen2.5-vl", "qwen3-vl"])
def a_family(request, tmp_path_factory, a_processor) -> Family:
    folder = tmp_path_factory.mktemp("family") / "model"
    if request.param == "bird":
        write_tiny_model(folder, ["Where is the liver?"])
        image_token = AutoProcessor.from_pretrained(folder).image_token_id
        ids = torch.tensor([[5, *[image_token] * TINY_QUERIES, 7, 9, 11]])
        question = {"input_ids": ids, "pixel_values": torch.randn(1, 3, TINY_SIZE, TINY_SIZE)}
    else:
        reader = a_start(request.param, folder).reader
        pixels = reader.pixels([np.random.default_rng(0).integers(0, 255, (90, 60), np.uint8)])
        count = int(pixels["image_grid_thw"].prod()) // 4
        ids = torch.tensor([[5, *[reader.image_token_id] * count, 7, 9, 11]])
        kinds = (ids == reader.image_token_id).int()
        question = {"input_ids": ids, "mm_token_type_ids": kinds, **pixels}
    network = load_network(folder, torch.float32)
    parts = FAMILY_PARTS[network.config.model_type].bridge
    stored = network.state_dict()
    bridge = {name for name in stored if any(name.startswith(f"{part}.") for part in parts)}
    return Family(folder, bridge, question)


@pytest.fixture(scope="module")
def an_adapter(a_family, tmp_path_factory) -> tuple[Path, torch.Tensor]:
    """A folder of adapters whose every weight moved, and the logits of the model that has them."""
    torch.manual_seed(0)
    model = prepare_model(a_family.load(), load_recipe("lora", {"lora_rank": 4})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        answered = model(**a_family.question).logits
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder, answered


def test_the_bridges_weights_are_in_the_adapter(a_family, an_adapter):
    folder, _ = an_adapter
    stored = load_file(folder / "adapter_model.safetensors")
    names = {name.removeprefix("base_model.model.") for name in stored}
    assert len(a_family.bridge) > 4
    assert a_family.bridge == {name for name in names if "lora_" not in name}
    before = a_family.load().state_dict()
    fixed = {name for name in a_family.bridge if name.endswith("pos_embed")}  # BiRD's positions
    for name in a_family.bridge - fixed:
        assert not torch.equal(stored[f"base_model.model.{name}"], before[name])


def test_low_rank_are_the_language_models_layers_alone(a_family, an_adapter):
    folder, _ = an_adapter
    adapted = {
        name.partition(".lora_")[0]
        for name in load_file(folder / "adapter_model.safetensors")
        if ".lora_" in name
    }
    layers = a_family.load().config.text_config.num_hidden_layers
    assert len(adapted) == 7 * layers
    assert all("language_model.layers." in name for name in adapted)


@torch.no_grad()
def test_reloaded_adapters_answer_as_they_did(a_family, an_adapter):
    folder, answered = an_adapter
    model = PeftModel.from_pretrained(a_family.load(), folder).eval()
    torch.testing.assert_close(model(**a_family.question).logits, answered, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_folder_of_adapters_loads_by_its_path(a_family, an_adapter):
    """transformers reads the start's folder and the adapters, the bridge too."""
    folder, answered = an_adapter
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    torch.testing.assert_close(model(**a_family.question).logits, answered, atol=1e-4, rtol=0)


@torch.no_grad()
def test_merged_weights_answer_as_the_adapters_did(a_family, an_adapter, tmp_path):
    folder, answered = an_adapter
    base = a_family.load()
    before = base(**a_family.question).logits
    merged = merge_folder(base, folder).eval()
    assert merged.state_dict().keys() == a_family.load().state_dict().keys()
    after = merged(**a_family.question).logits
    torch.testing.assert_close(after, answered, atol=1e-4, rtol=0)
    assert (after - before).abs().max() > 0.01
    merged.save_pretrained(tmp_path / "merged")
    read = load_network(tmp_path / "merged", torch.float32).eval()
    torch.testing.assert_close(read(**a_family.question).logits, answered, atol=1e-4, rtol=0)


def test_a_folder_without_adapters_is_refused(tmp_path, a_bird):
    with pytest.raises(BirdError, match=r"adapter_config\.json"):
        merge_folder(a_bird, tmp_path)
