"""bird-mini: the sizes of the small model that ships, its tokenizer, and how its folder is made.

Same classes and text as the full model; a convolutional stem, a smaller picture and a small
vocabulary. Knows nothing about training.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from math import isqrt
from pathlib import Path

import torch
from transformers import Qwen2Config

from bird_training.records import PictureRecord
from bird_training.regions import Vocabulary, region_of
from bird_training.writers.dialogues import PlacedObject, write_turns
from bird_vlm.boxes import NORM_MAX
from bird_vlm.configuration_bird import BirdConfig, BirdVisionConfig
from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.model_card import LABELS_FILE
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.processing_bird import BirdProcessor
from bird_vlm.tokenization_bird import BirdTokenizer, number_ids, train_small_tokenizer
from bird_vlm.vision_bird import BirdResampler

IMAGE_SIZE = 160
VOCABULARY_SIZE = 1024  # besides the numbers
_WIDTH, _HEAD = 192, 64
_QUERIES = 144
_NUMBER_SCALES = (0.4, 0.1, 0.03)  # over how far numbers look alike, 1 = a side of the picture


def mini_processor(records: Sequence[PictureRecord], vocabulary: Vocabulary) -> BirdProcessor:
    """Processor of bird-mini; its tokenizer is trained on the questions that `records` lead to."""
    tokenizer = train_small_tokenizer(
        _texts(records, vocabulary), VOCABULARY_SIZE, numbers=NORM_MAX + 1
    )
    image_processor = BirdImageProcessor(size=mini_picture_size())
    return BirdProcessor(image_processor, tokenizer, num_image_tokens=_QUERIES)


def mini_picture_size() -> dict[str, int]:
    """Of bird-mini's pictures, as image processors write it, pixels."""
    return {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


def mini_model(tokenizer: BirdTokenizer) -> BirdForConditionalGeneration:
    """bird-mini with random weights (6.6 million with two thousand tokens)."""
    config = BirdConfig(
        vision_config=_vision_config(),
        text_config=_text_config(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<imgpad>"),
        image_start_id=tokenizer.convert_tokens_to_ids("<img>"),
        image_end_id=tokenizer.convert_tokens_to_ids("</img>"),
    )
    model = BirdForConditionalGeneration(config)
    _look_around(model.model.vision_tower.attn_pool)
    for table in (model.get_input_embeddings(), model.lm_head):
        _order_numbers(table.weight, number_ids(tokenizer, NORM_MAX + 1))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _vision_config() -> BirdVisionConfig:
    return BirdVisionConfig(
        image_size=IMAGE_SIZE,
        patch_size=16,
        hidden_size=_WIDTH,
        num_hidden_layers=4,
        num_attention_heads=_WIDTH // _HEAD,
        intermediate_size=4 * _WIDTH,
        position_grid=IMAGE_SIZE // 16,
        stem="conv",
        stem_channels=[24, 48, 96, 192],
        stem_blocks=[0, 1, 2, 2],
        output_dim=_WIDTH,
        num_queries=_QUERIES,
        resampler_heads=_WIDTH // _HEAD,
    )


def _text_config(tokenizer: BirdTokenizer) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=_WIDTH // _HEAD,
        num_key_value_heads=_WIDTH // _HEAD,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def save_mini(
    model: BirdForConditionalGeneration,
    processor: BirdProcessor,
    vocabulary: Vocabulary,
    folder: Path,
) -> None:
    """Write a folder that loads by `from_pretrained`: half-precision weights and `labels.json`.

    The weights have no more digits than bfloat16 has: packed, they take a quarter less.
    """
    state = {
        name: value.to(torch.bfloat16).to(torch.float16).contiguous()
        for name, value in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)
    processor.save_pretrained(folder)
    labels = {name: sorted(known) for name, known in sorted(vocabulary.by_modality.items())}
    (folder / LABELS_FILE).write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")


@torch.no_grad()
def _look_around(resampler: BirdResampler) -> None:
    """Let every image token see its own part of the picture from the first step on.

    With random projections each token starts as the mean of the whole grid, and a small model
    spends most of its training on finding out that tokens have places. Positions whose products
    fall off within a cell or two, behind projections that keep them, make the attention local.
    """
    count, width = resampler.pos_embed.shape
    heads = resampler.attn.num_heads
    side, rates = isqrt(count), torch.linspace(0.15, 2.0, width // heads // 4)
    angle = torch.arange(side).float().outer(rates)
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # (side, width / heads / 2)
    place = torch.cat([wave.repeat(side, 1), wave.repeat_interleave(side, 0)], dim=1)
    resampler.pos_embed.copy_(2 * place.repeat(1, heads))
    resampler.attn.in_proj_weight[: 2 * width] = torch.eye(width).repeat(2, 1)
    resampler.ln_q.weight.fill_(0.3)


@torch.no_grad()
def _order_numbers(table: torch.Tensor, numbers: Sequence[int]) -> None:
    """Let close numbers look alike from the first step on; `table` is (vocabulary, width).

    With random rows a thousand coordinates are a thousand unrelated words.
    """
    places = torch.linspace(0, 1, len(numbers))[:, None]
    scale = table[numbers].std()
    rows = torch.zeros(len(numbers), table.shape[1])
    for width in _NUMBER_SCALES:
        centres = torch.arange(-1, 2, width)
        nearness = torch.exp(-(((places - centres) / width) ** 2) / 2)
        rows += nearness @ torch.randn(len(centres), table.shape[1])
    table[numbers] = rows / rows.std() * scale


def _texts(records: Sequence[PictureRecord], vocabulary: Vocabulary) -> Iterator[str]:
    rng = random.Random(0)
    for record in records:
        objects = [PlacedObject(o.label, _random_box(rng)) for o in record.objects]
        absent = vocabulary.near_misses(record) + vocabulary.elsewhere(record.dataset)
        region = region_of(record.dataset)
        for turn in write_turns(
            record.modality, region, objects, absent, rng, count=8, plane=record.plane
        ):
            yield turn.question
            yield turn.answer


def _random_box(rng: random.Random) -> tuple[int, int, int, int]:
    x0, y0 = (rng.randrange(NORM_MAX - 1) for _ in range(2))
    return x0, y0, rng.randrange(x0 + 1, NORM_MAX), rng.randrange(y0 + 1, NORM_MAX)
