"""bird-mini: its tokenizer, its sizes, and a folder that loads as any transformers model does."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from bird_training.pretraining.mini import (
    IMAGE_SIZE,
    mini_model,
    mini_processor,
    save_mini,
)
from bird_vlm.boxes import NORM_MAX
from bird_vlm.grammar import REF_START, format_absent, format_present
from bird_vlm.model_card import LABELS_FILE
from bird_vlm.prompts import grounding_prompt
from bird_vlm.tokenization_bird import number_ids


@pytest.fixture(scope="module")
def a_mini_processor(many_records, a_vocabulary):
    return mini_processor(many_records, a_vocabulary)


def test_the_tokenizer_knows_the_words_of_its_questions(a_mini_processor):
    tokenizer = a_mini_processor.tokenizer
    for text in (
        grounding_prompt("left kidney"),
        format_present("edema", ((1, 23, 456, 1000),)),
        format_absent("skin lesion"),
        "Anything else: Größe 5 µm?",
    ):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer(grounding_prompt("liver")).input_ids) < 16


def test_presence_is_told_by_the_first_token(a_mini_processor):
    tokenizer = a_mini_processor.tokenizer
    present = tokenizer(format_present("liver", ((1, 2, 3, 4),))).input_ids[0]
    absent = {tokenizer(format_absent(x)).input_ids[0] for x in ("liver", "edema", "left kidney")}
    assert tokenizer.decode([present]) == REF_START
    assert len(absent) == 1
    assert present not in absent


def test_close_numbers_look_alike_from_the_start(a_mini_processor):
    model = mini_model(a_mini_processor.tokenizer)
    ids = number_ids(a_mini_processor.tokenizer, NORM_MAX + 1)
    for table in (model.get_input_embeddings().weight, model.lm_head.weight):
        rows = torch.nn.functional.normalize(table[ids].detach(), dim=-1)
        assert (rows[:-5] * rows[5:]).sum(-1).min() > 0.9
        assert (rows[:500] * rows[500:1000]).sum(-1).mean() < 0.6


def test_the_same_records_give_the_same_tokenizer(many_records, a_vocabulary, a_mini_processor):
    again = mini_processor(many_records, a_vocabulary)
    assert again.tokenizer.get_vocab() == a_mini_processor.tokenizer.get_vocab()


def test_the_folder_loads_with_the_same_weights_and_says_what_it_knows(
    tmp_path, a_mini_processor, a_vocabulary
):
    torch.manual_seed(0)
    model = mini_model(a_mini_processor.tokenizer).eval()
    assert 3e6 < model.num_parameters() < 12e6
    save_mini(model, a_mini_processor, a_vocabulary, tmp_path)

    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert type(loaded) is type(model)
    for name, value in model.state_dict().items():
        stored = value.bfloat16().half().float()
        assert torch.equal(loaded.state_dict()[name], stored), name
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.num_image_tokens == model.config.vision_config.num_queries
    assert processor.tokenizer.get_vocab() == a_mini_processor.tokenizer.get_vocab()
    assert processor.image_processor.size["height"] == IMAGE_SIZE
    assert loaded.generation_config.eos_token_id == processor.tokenizer.eos_token_id

    pixels = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.inference_mode():
        seen, again = (m.get_image_features(pixels) for m in (model, loaded))
    assert seen.shape == (1, processor.num_image_tokens, model.config.text_config.hidden_size)
    torch.testing.assert_close(seen, again, atol=0.05, rtol=0.05)

    assert json.loads((tmp_path / LABELS_FILE).read_text()) == {
        "ct": ["left kidney", "liver", "right kidney"],
        "dermoscopy": ["skin lesion"],
        "mr": ["brain tumor", "edema"],
    }
