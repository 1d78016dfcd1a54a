"""What learns and what does not; adapters fold into plain weights that answer alike."""

from __future__ import annotations

import pytest
import torch

from bird_training.tuning.adapters import freeze, merge_folder, prepare_model
from bird_training.tuning.recipe import Recipe, load_recipe
from bird_vlm.errors import BirdError
from small_world import TINY_SIZE, a_tiny_bird

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


@torch.no_grad()
def test_merged_weights_answer_as_the_adapters_did(tmp_path, a_processor):
    torch.manual_seed(0)
    base = a_tiny_bird(a_processor.tokenizer)
    clean = {name: value.clone() for name, value in base.state_dict().items()}
    model = prepare_model(base, LORA).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))
    ids = torch.tensor([[5, *[a_processor.image_token_id] * 16, 7, 9, 11]])
    pixels = torch.randn(1, 3, TINY_SIZE, TINY_SIZE)
    answered = model(input_ids=ids, pixel_values=pixels).logits
    model.save_pretrained(tmp_path / "adapter")

    fresh = a_tiny_bird(a_processor.tokenizer)
    fresh.load_state_dict(clean)
    before = fresh.eval()(input_ids=ids, pixel_values=pixels).logits
    merged = merge_folder(fresh, tmp_path / "adapter").eval()
    assert merged.state_dict().keys() == clean.keys()
    after = merged(input_ids=ids, pixel_values=pixels).logits
    torch.testing.assert_close(after, answered, atol=1e-4, rtol=0)
    assert (after - before).abs().max() > 0.01


def test_a_folder_without_adapters_is_refused(tmp_path, a_bird):
    with pytest.raises(BirdError, match=r"adapter_config\.json"):
        merge_folder(a_bird, tmp_path)
