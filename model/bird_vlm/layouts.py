"""How others spell a BiRD checkpoint: tensor names, tensor layouts and the configuration.

Knows nothing about files. Two layouts: `qwen`, the original Qwen-VL-Chat, and `paddle`, the
PaddleMIX fork in which BiRD was trained (linear weights are stored the other way round).
"""

import re
from dataclasses import dataclass

import torch
from huggingface_hub.errors import StrictDataclassError

from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import CheckpointError

LAYOUTS = ("qwen", "paddle")

_TO_QWEN = (
    ("model.vision_tower.blocks.", "transformer.visual.transformer.resblocks."),
    ("model.vision_tower.", "transformer.visual."),
    ("model.language_model.layers.", "transformer.h."),
    ("model.language_model.embed_tokens.", "transformer.wte."),
    ("model.language_model.norm.", "transformer.ln_f."),
    (".input_layernorm.", ".ln_1."),
    (".post_attention_layernorm.", ".ln_2."),
    (".self_attn.q_proj.", ".attn.c_attn."),
    (".self_attn.k_proj.", ".attn.c_attn."),
    (".self_attn.v_proj.", ".attn.c_attn."),
    (".self_attn.o_proj.", ".attn.c_proj."),
    (".mlp.gate_proj.", ".mlp.w2."),
    (".mlp.up_proj.", ".mlp.w1."),
    (".mlp.down_proj.", ".mlp.c_proj."),
)
_TO_PADDLE = (
    (r"^transformer\.visual\.(attn_pool|ln_post|proj)\b", r"visual.\1"),
    (r"^transformer\.visual\.", "visual.vit."),
    (r"^transformer\.", "transformer.llm."),
)
_PARTS = {"q_proj": 0, "k_proj": 1, "v_proj": 2}


@dataclass(frozen=True)
class Source:
    """Where one of our tensors lies in another layout."""

    name: str
    part: int | None = None  # which third of the rows, for the packed query, key, value projection
    transposed: bool = False

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the whole source tensor, given the shape of our tensor."""
        whole = ours if self.part is None else (3 * ours[0], *ours[1:])
        return whole[::-1] if self.transposed else whole

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """Our tensor out of the source tensor, in memory of its own."""
        tensor = tensor.T if self.transposed else tensor
        tensor = tensor if self.part is None else tensor.chunk(3)[self.part]
        return tensor.clone(memory_format=torch.contiguous_format)


def source_of(name: str, ndim: int, layout: str) -> Source:
    """Where our tensor `name` of `ndim` dimensions lies in `layout`."""
    original = name
    for ours, theirs in _TO_QWEN:
        original = original.replace(ours, theirs)
    part = next((part for key, part in _PARTS.items() if f".self_attn.{key}." in name), None)
    if layout == "qwen":
        return Source(original, part)
    for pattern, theirs in _TO_PADDLE:
        if re.search(pattern, original):
            original = re.sub(pattern, theirs, original)
            break
    linear = ndim == 2 and name.endswith("weight") and "embed_tokens" not in name
    return Source(original, part, transposed=linear)


def join(parts: dict[Source, torch.Tensor]) -> torch.Tensor:
    """The source tensor out of all of our tensors that lie in it."""
    ordered = sorted(parts, key=lambda source: source.part or 0)
    whole = torch.cat([parts[source] for source in ordered])
    return whole.T.contiguous() if ordered[0].transposed else whole


def layout_of(names: set[str]) -> str:
    """Which layout a checkpoint with these tensor names has.

    Raises:
        CheckpointError: neither of the two.
    """
    if any(name.startswith("transformer.h.") for name in names):
        return "qwen"
    if any(name.startswith("transformer.llm.") for name in names):
        return "paddle"
    raise CheckpointError(
        f"no Qwen-VL or Paddle BiRD tensors among {len(names)}, e.g. "
        f"{', '.join(sorted(names)[:3]) or 'none'}; give an original checkpoint folder"
    )


def config_from_original(flat: dict) -> BirdConfig:
    """Our configuration from the original's flat `config.json`.

    Raises:
        CheckpointError: not a Qwen-VL configuration, or one with parts that BiRD does not have.
    """
    visual = flat.get("visual")
    if flat.get("model_type", "qwen") != "qwen" or not isinstance(visual, dict):
        raise CheckpointError(
            f"config.json: needs model_type 'qwen' and a 'visual' part, got model_type "
            f"{flat.get('model_type')!r}; text-only or later Qwen models are not BiRD"
        )
    try:
        return _config_from_original(flat, visual)
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"config.json: {error.args[0]!r} is missing") from error
    except (TypeError, ValueError, ArithmeticError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"config.json: holds a wrong value ({reason})") from error


def _config_from_original(flat: dict, visual: dict) -> BirdConfig:
    for key, wanted in (("tie_word_embeddings", False), ("no_bias", True), ("rotary_pct", 1.0)):
        if flat.get(key, wanted) != wanted:
            raise CheckpointError(f"config.json: {key} must be {wanted}, got {flat[key]}")
    start = visual["image_start_id"]
    return BirdConfig(
        vision_config={
            "image_size": visual["image_size"],
            "patch_size": visual["patch_size"],
            "hidden_size": visual["width"],
            "num_hidden_layers": visual["layers"],
            "num_attention_heads": visual["heads"],
            "intermediate_size": int(visual["width"] * visual["mlp_ratio"]),
            "output_dim": visual["output_dim"],
            "num_queries": visual.get("n_queries", 256),
            "resampler_heads": visual["output_dim"] // 128,
        },
        text_config={
            "vocab_size": flat["vocab_size"],
            "hidden_size": flat["hidden_size"],
            "num_hidden_layers": flat["num_hidden_layers"],
            "num_attention_heads": flat["num_attention_heads"],
            "num_key_value_heads": flat["num_attention_heads"],
            "intermediate_size": flat["intermediate_size"] // 2,  # counts gate and up projection
            "rms_norm_eps": flat["layer_norm_epsilon"],
            "max_position_embeddings": flat["max_position_embeddings"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": float(flat["rotary_emb_base"]),
            },
        },
        image_start_id=start,
        image_end_id=start + 1,
        image_token_id=start + 2,
        max_sequence=flat["seq_length"],
        dtype="float32" if flat.get("fp32") else flat.get("torch_dtype"),
    )


def config_to_original(config: BirdConfig) -> dict:
    """The original's flat `config.json` from our configuration.

    Raises:
        CheckpointError: the model has parts that the original does not have.
    """
    vision, text = config.vision_config, config.text_config
    grouped = text.num_key_value_heads != text.num_attention_heads
    ids = (config.image_start_id, config.image_end_id - 1, config.image_token_id - 2)
    odd_heads = vision.resampler_heads != vision.output_dim // 128
    if vision.stem != "patchify" or grouped or odd_heads or len(set(ids)) > 1:
        raise CheckpointError(
            "this model has no counterpart in the original layout (conv stem, grouped heads or "
            "other token ids); only converted Qwen-VL models convert back"
        )
    return {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "vocab_size": text.vocab_size,
        "hidden_size": text.hidden_size,
        "num_hidden_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads,
        "kv_channels": text.hidden_size // text.num_attention_heads,
        "intermediate_size": 2 * text.intermediate_size,
        "layer_norm_epsilon": text.rms_norm_eps,
        "max_position_embeddings": text.max_position_embeddings,
        "seq_length": config.max_sequence,
        "rotary_emb_base": int(text.rope_parameters["rope_theta"]),
        "rotary_pct": 1.0,
        "no_bias": True,
        "tie_word_embeddings": False,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
        "use_flash_attn": False,
        "fp32": config.dtype == torch.float32,
        "torch_dtype": str(config.dtype or torch.bfloat16).removeprefix("torch."),
        "visual": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.hidden_size,
            "layers": vision.num_hidden_layers,
            "heads": vision.num_attention_heads,
            "mlp_ratio": _mlp_ratio(vision.hidden_size, vision.intermediate_size),
            "output_dim": vision.output_dim,
            "n_queries": vision.num_queries,
            "image_start_id": config.image_start_id,
        },
    }


def _mlp_ratio(width: int, intermediate: int) -> float:
    """A ratio for which the original's `int(width * ratio)` gives `intermediate`."""
    ratio = round(intermediate / width, 4)
    return ratio if int(width * ratio) == intermediate else (intermediate + 0.5) / width
