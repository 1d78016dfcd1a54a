"""Conversion: golden values, bit-exact round trips in every format, and named faults."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from bird_vlm import weight_files
from bird_vlm.checkpoints import convert, convert_back, tensor_shapes
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import CheckpointError
from bird_vlm.layouts import config_from_original, source_of
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.weight_files import open_weights
from tiny_bird import ORIGINAL_CONFIG, a_config, original_tensors


def tensors_of(folder) -> dict[str, torch.Tensor]:
    return {name: stored.read() for name, stored in open_weights(folder).items()}


def assert_bit_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.fixture(scope="module")
def golden_bird(shared, tmp_path_factory):
    """The golden checkpoint, converted; its folder and the original's."""
    folder = tmp_path_factory.mktemp("golden") / "bird"
    original = shared / "golden/qwen_vl_tiny"
    conversion = convert(original, folder)
    assert conversion.tensors == 69
    assert "no processor written" in conversion.notes[0]
    return folder, original


@pytest.mark.shared
def test_converted_model_computes_what_the_original_computes(golden_bird):
    folder, original = golden_bird
    model = AutoModelForImageTextToText.from_pretrained(folder)
    golden = np.load(original / "golden.npz")
    inputs = {
        "input_ids": torch.from_numpy(golden["input_ids"]),
        "pixel_values": torch.from_numpy(golden["pixel_values"]),
    }
    with torch.no_grad():
        features = model.get_image_features(inputs["pixel_values"])
        logits = model(**inputs).logits
    np.testing.assert_allclose(features, golden["visual_features"], atol=1e-5)
    np.testing.assert_allclose(logits[:, -10:], golden["last_logits"], atol=1e-5)
    assert np.array_equal(logits.argmax(-1), golden["argmax"])
    generated = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert np.array_equal(generated[:, -12:], golden["greedy"])


@pytest.mark.shared
@pytest.mark.parametrize("layout", ["qwen", "paddle"])
def test_golden_checkpoint_converts_back_bit_for_bit(golden_bird, layout, tmp_path):
    folder, original = golden_bird
    convert_back(folder, tmp_path / "back", layout)
    if layout == "paddle":
        convert(tmp_path / "back", tmp_path / "again")
        assert_bit_equal(tensors_of(tmp_path / "again"), tensors_of(folder))
    else:
        assert_bit_equal(tensors_of(tmp_path / "back"), tensors_of(original))


@pytest.mark.shared
def test_names_of_the_real_checkpoint_map_completely(shared):
    files = shared / "golden/qwen_vl_chat_files"
    index = json.loads((files / "pytorch_model.bin.index.json").read_text())
    config = config_from_original(json.loads((files / "config.json").read_text()))
    shapes = tensor_shapes(config)
    sources = {name: source_of(name, len(shape), "qwen") for name, shape in shapes.items()}
    wanted = {source.name: source.shape(shapes[name]) for name, source in sources.items()}
    assert len(wanted) == 853
    assert wanted.keys() == index["weight_map"].keys()
    assert 2 * sum(map(np.prod, wanted.values())) == index["metadata"]["total_size"]
    assert wanted["transformer.h.31.attn.c_attn.weight"] == (12288, 4096)
    assert wanted["transformer.visual.attn_pool.attn.in_proj_weight"] == (12288, 4096)


def test_default_configuration_is_qwen_vl_chats():
    assert sum(map(np.prod, tensor_shapes(BirdConfig()).values())) == 9_656_935_168


def test_every_tensor_finds_its_place(an_original_checkpoint, tmp_path):
    conversion = convert(an_original_checkpoint, tmp_path / "bird")
    original, ours = original_tensors(), tensors_of(tmp_path / "bird")
    assert conversion.layout == "qwen"
    assert conversion.tensors == len(ours)
    query, key, value = original["transformer.h.1.attn.c_attn.weight"].chunk(3)
    layer = "model.language_model.layers.1"
    assert torch.equal(ours[f"{layer}.self_attn.q_proj.weight"], query)
    assert torch.equal(ours[f"{layer}.self_attn.k_proj.weight"], key)
    assert torch.equal(ours[f"{layer}.self_attn.v_proj.weight"], value)
    gate = original["transformer.h.1.mlp.w2.weight"]
    assert torch.equal(ours[f"{layer}.mlp.gate_proj.weight"], gate)
    positions = original["transformer.visual.attn_pool.pos_embed"]
    assert torch.equal(ours["model.vision_tower.attn_pool.pos_embed"], positions)


def test_converted_folder_loads_and_answers(an_original_checkpoint, tmp_path):
    convert(an_original_checkpoint, tmp_path / "bird")
    model, report = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "bird", output_loading_info=True
    )
    assert not any(report.values())
    assert model.dtype == torch.float16
    processor = AutoProcessor.from_pretrained(tmp_path / "bird")
    content = [
        {"type": "image", "image": np.zeros((9, 9), np.uint8)},
        {"type": "text", "text": "Where is the liver?"},
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert inputs["pixel_values"].shape == (1, 3, 56, 56)
    assert (
        model.float().generate(**inputs, max_new_tokens=3).shape[1] > inputs["input_ids"].shape[1]
    )
    generation = GenerationConfig.from_pretrained(tmp_path / "bird")
    end, stop = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert (generation.eos_token_id, generation.max_new_tokens) == ([end, stop], 99)
    assert generation.do_sample is False


def store_in_bin_shards(folder, tensors):
    names = sorted(tensors)
    index = {"weight_map": {}}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, folder / file)
        index["weight_map"].update(dict.fromkeys(part, file))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def store_in_old_bin(folder, tensors):
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def store_in_npz(folder, tensors):
    np.savez(folder / "model_state.npz", **{name: t.numpy() for name, t in tensors.items()})


@pytest.mark.parametrize("store", [store_in_bin_shards, store_in_old_bin, store_in_npz])
def test_formats_give_the_same_model(store, an_original_checkpoint, tmp_path):
    convert(an_original_checkpoint, tmp_path / "one")
    (an_original_checkpoint / "model.safetensors").unlink()
    store(an_original_checkpoint, original_tensors())
    convert(an_original_checkpoint, tmp_path / "other")
    assert_bit_equal(tensors_of(tmp_path / "other"), tensors_of(tmp_path / "one"))


def test_paddle_names_and_transposed_weights_give_the_same_model(an_original_checkpoint, tmp_path):
    convert(an_original_checkpoint, tmp_path / "one")
    (an_original_checkpoint / "model.safetensors").unlink()
    store_in_npz(an_original_checkpoint, paddle_tensors())
    conversion = convert(an_original_checkpoint, tmp_path / "other")
    assert conversion.layout == "paddle"
    assert_bit_equal(tensors_of(tmp_path / "other"), tensors_of(tmp_path / "one"))
    convert_back(tmp_path / "other", tmp_path / "back", layout="paddle")
    assert_bit_equal(tensors_of(tmp_path / "back"), paddle_tensors())


def paddle_tensors() -> dict[str, torch.Tensor]:
    """The original's weights as PaddlePaddle holds them: [in, out], under the fork's names."""
    tensors = {}
    for name, tensor in original_tensors().items():
        kept = ("wte.weight", ".proj", ".query", ".pos_embed", ".positional_embedding")
        if tensor.ndim == 2 and not name.endswith(kept):
            tensor = tensor.T.contiguous()
        head, _, rest = name.partition("transformer.visual.")
        if rest.startswith(("attn_pool", "ln_post", "proj")):
            name = f"visual.{rest}"
        elif rest:
            name = f"visual.vit.{rest}"
        elif head.startswith("transformer."):
            name = name.replace("transformer.", "transformer.llm.", 1)
        tensors[name] = tensor
    return tensors


def test_bfloat16_handed_over_as_uint16_keeps_its_bits(tmp_path):
    values = torch.randn(8).bfloat16()
    np.savez(tmp_path / "weights.npz", bits=values.view(torch.uint16).numpy())
    assert_bit_equal(tensors_of(tmp_path), {"bits": values})


def test_conversion_and_back_is_bit_exact(an_original_checkpoint, tmp_path):
    convert(an_original_checkpoint, tmp_path / "bird")
    conversion = convert_back(tmp_path / "bird", tmp_path / "back")
    assert_bit_equal(tensors_of(tmp_path / "back"), original_tensors())
    assert conversion.notes == ()
    ranks = [folder / "qwen.tiktoken" for folder in (an_original_checkpoint, tmp_path / "back")]
    assert ranks[0].read_bytes() == ranks[1].read_bytes()
    config = json.loads((tmp_path / "back/config.json").read_text())
    assert {key: config[key] for key in ORIGINAL_CONFIG} == ORIGINAL_CONFIG


def test_folder_saved_again_by_transformers_converts_back(an_original_checkpoint, tmp_path):
    convert(an_original_checkpoint, tmp_path / "bird")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "bird")
    model.save_pretrained(tmp_path / "saved", max_shard_size="300KB")
    conversion = convert_back(tmp_path / "saved", tmp_path / "back")
    assert_bit_equal(tensors_of(tmp_path / "back"), original_tensors())
    assert "no qwen.tiktoken written" in conversion.notes[0]


def test_large_models_are_written_in_shards(an_original_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "SHARD_BYTES", 400_000)
    steps = []
    convert(an_original_checkpoint, tmp_path / "bird", lambda *step: steps.append(step))
    shards = sorted(path.name for path in (tmp_path / "bird").glob("*.safetensors"))
    assert len(shards) > 2
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    _, report = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "bird", output_loading_info=True
    )
    assert not any(report.values())
    total = len(tensors_of(tmp_path / "bird"))
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_missing_unknown_and_misshaped_tensors_are_all_named(an_original_checkpoint, tmp_path):
    tensors = original_tensors()
    del tensors["transformer.ln_f.weight"], tensors["transformer.visual.proj"]
    tensors["transformer.h.9.ln_1.weight"] = torch.zeros(256)
    tensors["lm_head.weight"] = torch.zeros(480, 255)
    tensors["transformer.h.0.attn.c_attn.bias"] = torch.zeros(256)
    save_file(tensors, an_original_checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError) as raised:
        convert(an_original_checkpoint, tmp_path / "bird")
    message = str(raised.value)
    assert "missing: transformer.ln_f.weight, transformer.visual.proj;" in message
    assert "unknown: transformer.h.9.ln_1.weight;" in message
    assert "lm_head.weight is [480, 255] instead of [480, 256]" in message
    assert "transformer.h.0.attn.c_attn.bias is [256] instead of [768]" in message
    assert "\n" not in message
    assert not (tmp_path / "bird").exists()


def test_our_folder_with_a_hole_does_not_convert_back(an_original_checkpoint, tmp_path):
    convert(an_original_checkpoint, tmp_path / "bird")
    tensors = tensors_of(tmp_path / "bird")
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "bird/model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight"):
        convert_back(tmp_path / "bird", tmp_path / "back")


def without_config(folder):
    (folder / "config.json").unlink()


def with_broken_config(folder):
    (folder / "config.json").write_text("{")


def with_config_of_another_model(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def with_text_only_config(folder):
    text = {key: value for key, value in ORIGINAL_CONFIG.items() if key != "visual"}
    (folder / "config.json").write_text(json.dumps(text))


def with_config_lacking_a_key(folder):
    text = {key: value for key, value in ORIGINAL_CONFIG.items() if key != "hidden_size"}
    (folder / "config.json").write_text(json.dumps(text))


def with_config_of_wrong_type(folder):
    (folder / "config.json").write_text(json.dumps({**ORIGINAL_CONFIG, "hidden_size": "wide"}))


def with_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def with_cut_off_tensors(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def with_pickled_paddle_weights(folder):
    (folder / "model.safetensors").rename(folder / "model_state.pdparams")


def with_code_in_the_weights(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": print}, folder / "pytorch_model.bin")


def with_nested_weights(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": {"lm_head.weight": torch.ones(1)}}, folder / "pytorch_model.bin")


def with_an_absent_shard(folder):
    weight_map = {"lm_head.weight": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def with_a_tensor_twice(folder):
    save_file({"lm_head.weight": torch.ones(1)}, folder / "second.safetensors")


def with_other_weights(folder):
    save_file({"bert.pooler.weight": torch.ones(1)}, folder / "model.safetensors")


def with_another_vocabulary(folder):
    config = json.loads((folder / "config.json").read_text())
    config["visual"]["image_start_id"] = 400
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_config, r"holds no config\.json"),
        (with_broken_config, r"config\.json: is not JSON"),
        (with_config_of_another_model, "got model_type 'llama'"),
        (with_text_only_config, "a 'visual' part"),
        (with_config_lacking_a_key, "'hidden_size' is missing"),
        (with_config_of_wrong_type, r"config\.json: holds a wrong value"),
        (with_truncated_weights, r"model\.safetensors: cannot be read"),
        (with_cut_off_tensors, r"model\.safetensors: cannot be read"),
        (without_weights, "holds no weights; needs"),
        (with_pickled_paddle_weights, r"model_state\.pdparams is a pickle"),
        (with_code_in_the_weights, r"pytorch_model\.bin: cannot be read"),
        (with_nested_weights, "not a plain dictionary of tensors"),
        (with_an_absent_shard, r"lacks the shards model-00002-of-00002\.safetensors"),
        (with_a_tensor_twice, r"holds tensors of another file too: lm_head\.weight"),
        (with_other_weights, r"no Qwen-VL or Paddle BiRD tensors among 1, e\.g\. bert"),
        (with_another_vocabulary, "its <imgpad> is not"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_spoilt_folders_are_refused_in_one_line(spoil, message, an_original_checkpoint, tmp_path):
    spoil(an_original_checkpoint)
    with pytest.raises(CheckpointError, match=message) as raised:
        convert(an_original_checkpoint, tmp_path / "bird")
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original"]


def test_a_folder_in_use_is_not_overwritten(an_original_checkpoint, tmp_path):
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird/notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is not an empty folder"):
        convert(an_original_checkpoint, tmp_path / "bird")
    assert [path.name for path in (tmp_path / "bird").iterdir()] == ["notes.txt"]


def test_an_interrupted_conversion_leaves_nothing(an_original_checkpoint, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(an_original_checkpoint, tmp_path / "bird", interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original"]


def test_models_without_a_counterpart_do_not_convert_back(tmp_path, an_original_checkpoint):
    bird = BirdForConditionalGeneration(a_config(stem="conv", stem_channels=[4, 4, 4]))
    bird.save_pretrained(tmp_path / "mini")
    with pytest.raises(CheckpointError, match="no counterpart in the original layout"):
        convert_back(tmp_path / "mini", tmp_path / "back")
    with pytest.raises(CheckpointError, match="is not a BiRD folder"):
        convert_back(an_original_checkpoint, tmp_path / "back")
    with pytest.raises(CheckpointError, match="layout: must be one of qwen, paddle"):
        convert_back(tmp_path / "mini", tmp_path / "back", layout="gguf")
