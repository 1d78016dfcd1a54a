"""Tiny models of every family that chats or is prompted, with random weights, made here.

The folders look like those of the hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from tiny_tokenizers import GEMMA_CHAT, gemma_tokenizer, qwen_tokenizer

SIDE = 32  # pixels of the square that Gemma's vision towers see
_PATCH = 8


def save_tiny(family: str, folder: Path) -> Path:
    """A model folder with random weights, as the hub holds them."""
    torch.manual_seed(0)
    _SAVERS[family](folder)
    return folder


def _save_qwen25(folder: Path) -> None:
    tokenizer = qwen_tokenizer()
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer) | _qwen_rope(),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        **_qwen_ids(tokenizer),
    )
    _save_qwen(folder, Qwen2_5_VLForConditionalGeneration(config), tokenizer, 14)


def _save_qwen3(folder: Path) -> None:
    tokenizer = qwen_tokenizer()
    config = Qwen3VLConfig(
        text_config=_text(tokenizer) | _qwen_rope() | {"head_dim": 16},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        **_qwen_ids(tokenizer),
    )
    _save_qwen(folder, Qwen3VLForConditionalGeneration(config), tokenizer, 16)


def _save_qwen(
    folder: Path, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, patch_size: int
) -> None:
    network.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(
        ["<|im_end|>", "<|endoftext|>"]
    )
    network.generation_config.update(do_sample=True, temperature=0.7, repetition_penalty=1.05)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    square = (2 * patch_size) ** 2
    Qwen2VLImageProcessorPil(
        patch_size=patch_size,
        merge_size=2,
        size={"shortest_edge": 4 * square, "longest_edge": 64 * square},
    ).save_pretrained(folder)
    settings = folder / "preprocessor_config.json"
    published = {"image_processor_type": "Qwen2VLImageProcessorFast"}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | published))


def _save_gemma3(folder: Path) -> None:
    tokenizer = gemma_tokenizer(turns=True)
    config = Gemma3Config(
        text_config=_text(tokenizer)
        | {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16},
        vision_config=_siglip(),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )
    network = Gemma3ForConditionalGeneration(config)
    network.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(
        ["<eos>", "<end_of_turn>"]
    )
    network.save_pretrained(folder)
    image_processor = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE})
    Gemma3Processor(
        image_processor, tokenizer, chat_template=GEMMA_CHAT, image_seq_length=4
    ).save_pretrained(folder)


def _save_paligemma(folder: Path) -> None:
    tokenizer = gemma_tokenizer(turns=False)
    patches = (SIDE // _PATCH) ** 2
    image_processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    image_processor.image_seq_length = patches
    processor = PaliGemmaProcessor(image_processor, tokenizer)
    text = _text(tokenizer) | {
        "model_type": "gemma2",
        "head_dim": 16,
        "sliding_window": 64,
        "query_pre_attn_scalar": 16,
    }
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=_siglip() | {"projection_dim": 64},
        projection_dim=64,
        image_token_index=processor.image_token_id,
    )
    network = PaliGemmaForConditionalGeneration(config)
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


_SAVERS: dict[str, Callable[[Path], None]] = {
    "qwen2.5-vl": _save_qwen25,
    "qwen3-vl": _save_qwen3,
    "gemma3": _save_gemma3,
    "paligemma": _save_paligemma,
    "radgrounder": _save_paligemma,
}
FAMILIES = tuple(_SAVERS)


def _text(tokenizer: PreTrainedTokenizerBase) -> dict:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _qwen_rope() -> dict:
    return {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 3, 3],
        }
    }


def _siglip() -> dict:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": _PATCH,
        "vision_use_head": False,
    }


def _qwen_ids(tokenizer: PreTrainedTokenizerBase) -> dict:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}
