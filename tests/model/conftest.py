"""Small BiRD models, processors and checkpoints with random weights."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.processing_bird import BirdProcessor
from bird_vlm.tokenization_bird import BirdTokenizer, train_small_tokenizer
from tiny_bird import ORIGINAL_CONFIG, QUERIES, SENTENCES, a_config, original_tensors


@pytest.fixture
def a_bird() -> BirdForConditionalGeneration:
    torch.manual_seed(0)
    return BirdForConditionalGeneration(a_config()).eval()


@pytest.fixture
def two_images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def a_small_tokenizer() -> BirdTokenizer:
    return train_small_tokenizer(SENTENCES * 5, vocab_size=400)


@pytest.fixture(scope="session")
def a_tokenizer_of_numbers() -> BirdTokenizer:
    return train_small_tokenizer(SENTENCES * 5, vocab_size=400, numbers=1001)


@pytest.fixture
def a_processor(a_small_tokenizer) -> BirdProcessor:
    image_processor = BirdImageProcessor(size={"height": 32, "width": 32})
    return BirdProcessor(image_processor, a_small_tokenizer, num_image_tokens=QUERIES)


@pytest.fixture
def a_ranks_file(tmp_path) -> Path:
    """256 bytes and three joined tokens, so that `<imgpad>` is token 475."""
    tokens = [bytes([value]) for value in range(256)] + [b"li", b"ver", b"ve"]
    tokens[257], tokens[258] = tokens[258], tokens[257]  # a token follows its parts
    path = tmp_path / "qwen.tiktoken"
    lines = (f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens))
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


@pytest.fixture
def an_original_checkpoint(tmp_path, a_ranks_file) -> Path:
    """A folder as Qwen-VL-Chat ships it, with random half-precision weights."""
    folder = tmp_path / "original"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ORIGINAL_CONFIG))
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": 99}))
    a_ranks_file.rename(folder / "qwen.tiktoken")
    save_file(original_tensors(), folder / "model.safetensors")
    return folder
