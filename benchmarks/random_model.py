"""A BiRD of any size with random weights, to time what no checkpoint is at hand for.

Its answers mean nothing, but they are well formed and cost what real ones cost: numbers are spelled
in digits as Qwen-VL does. How many slices "show" an object is left to chance. Knows nothing about
volumes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from bird_vlm.backbones.bird import BirdEngine
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import BirdError
from bird_vlm.grammar import format_absent, format_present
from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.loading import device_of
from bird_vlm.model_card import ModelCard
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.processing_bird import BirdProcessor
from bird_vlm.prompts import grounding_prompt
from bird_vlm.running import Running
from bird_vlm.tokenization_bird import BirdTokenizer, train_small_tokenizer

FULL = "full"  # 9.7 billion weights
_WORDS = 400  # of a tokenizer that was made on the spot
_PRECISION = {"cuda": torch.bfloat16, "cpu": torch.float32}


def random_engines(
    config: str, running: Running, kinds: tuple[type[BirdEngine], ...]
) -> list[BirdEngine]:
    """Engines around one network of the size of `config`, a file or "full"."""
    wanted = BirdConfig() if config == FULL else BirdConfig.from_pretrained(Path(config))
    tokenizer = _tokenizer(wanted)
    device = device_of(running)
    auto = running.precision == "auto"
    dtype = _PRECISION[device.type] if auto else getattr(torch, running.precision)
    with torch.device(device):
        network = BirdForConditionalGeneration(wanted).to(dtype).requires_grad_(False)
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    vision = wanted.vision_config
    side = {"height": vision.image_size, "width": vision.image_size}
    processor = BirdProcessor(
        BirdImageProcessor(size=side), tokenizer, num_image_tokens=vision.num_queries
    )
    card = ModelCard(f"random weights, {config}", device=str(device))
    return [kind(network, processor, card) for kind in kinds]


def _tokenizer(config: BirdConfig) -> BirdTokenizer:
    """A small one, whose picture tokens the config is told."""
    sentences = [grounding_prompt("liver"), format_absent("liver")]
    sentences.append(format_present("liver", ((12, 340, 567, 1000),)))
    tokenizer = train_small_tokenizer(sentences * 5, vocab_size=_WORDS)
    if len(tokenizer) > config.text_config.vocab_size:
        raise BirdError(
            f"config: needs a vocabulary of {len(tokenizer)}, has {config.text_config.vocab_size}"
        )
    ids = tokenizer.convert_tokens_to_ids(["<img>", "</img>", "<imgpad>"])
    config.image_start_id, config.image_end_id, config.image_token_id = ids
    config.text_config.eos_token_id = tokenizer.eos_token_id
    return tokenizer
