"""Sizes and tensors of toy models: the full code path with a few thousand random weights."""

from __future__ import annotations

import torch

from bird_vlm.configuration_bird import BirdConfig

IMAGE_TOKEN = 60
QUERIES = 16

SENTENCES = [
    "Where is the liver located in this image?",
    "<ref>liver</ref> is located at the coordinates <box>(12,340),(567,1000)</box>.",
    "The kidney is not present in the image.",
]

# The original's flat configuration at toy size; 128 is the width of every resampler head.
ORIGINAL_CONFIG = {
    "model_type": "qwen",
    "architectures": ["QWenLMHeadModel"],
    "vocab_size": 480,
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 192,
    "seq_length": 2048,
    "max_position_embeddings": 8192,
    "torch_dtype": "float16",
    "layer_norm_epsilon": 1e-6,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "no_bias": True,
    "tie_word_embeddings": False,
    "visual": {
        "heads": 2,
        "image_size": 56,
        "image_start_id": 473,
        "layers": 1,
        "mlp_ratio": 4.9231,
        "output_dim": 256,
        "patch_size": 14,
        "width": 52,
        "n_queries": 16,
    },
}


def a_config(**vision) -> BirdConfig:
    """A model of a few thousand weights, wide enough in its values that answers differ."""
    sizes = {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "position_grid": 2,
        "output_dim": 32,
        "num_queries": QUERIES,
        "resampler_heads": 4,
        "initializer_range": 0.2,
    }
    text = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
    }
    return BirdConfig(
        vision_config=sizes | vision,
        text_config=text,
        image_token_id=IMAGE_TOKEN,
        image_start_id=IMAGE_TOKEN - 2,
        image_end_id=IMAGE_TOKEN - 1,
    )


def original_tensors() -> dict[str, torch.Tensor]:
    """Random weights under the original names, as ORIGINAL_CONFIG asks for."""
    random = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(shape, generator=random).mul(0.05).half()
        for name, shape in original_shapes().items()
    }


def original_shapes() -> dict[str, tuple[int, ...]]:
    width, out, hidden, half, vocabulary = 52, 256, 256, 96, 480
    mlp = 256  # int(52 * 4.9231)
    visual = {
        "conv1.weight": (width, 3, 14, 14),
        "positional_embedding": (256, width),
        **_norm("ln_pre", width),
        **_norm("ln_post", out),
        "proj": (out, out),
        **_norm("transformer.resblocks.0.ln_1", width),
        **_norm("transformer.resblocks.0.ln_2", width),
        **_linear("transformer.resblocks.0.attn.in_proj", width, 3 * width),
        **_linear("transformer.resblocks.0.attn.out_proj", width, width),
        **_linear("transformer.resblocks.0.mlp.c_fc", width, mlp),
        **_linear("transformer.resblocks.0.mlp.c_proj", mlp, width),
        "attn_pool.query": (16, out),
        "attn_pool.pos_embed": (16, out),
        "attn_pool.kv_proj.weight": (out, width),
        **_norm("attn_pool.ln_q", out),
        **_norm("attn_pool.ln_kv", out),
        "attn_pool.attn.in_proj_weight": (3 * out, out),
        "attn_pool.attn.in_proj_bias": (3 * out,),
        **_linear("attn_pool.attn.out_proj", out, out),
    }
    layer = {
        "ln_1.weight": (hidden,),
        "ln_2.weight": (hidden,),
        **_linear("attn.c_attn", hidden, 3 * hidden),
        "attn.c_proj.weight": (hidden, hidden),
        "mlp.w1.weight": (half, hidden),
        "mlp.w2.weight": (half, hidden),
        "mlp.c_proj.weight": (hidden, half),
    }
    return {
        "transformer.wte.weight": (vocabulary, hidden),
        "transformer.ln_f.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
        **{f"transformer.visual.{name}": shape for name, shape in visual.items()},
        **{f"transformer.h.{n}.{name}": shape for n in (0, 1) for name, shape in layer.items()},
    }


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, width_in: int, width_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width_out, width_in), f"{name}.bias": (width_out,)}
