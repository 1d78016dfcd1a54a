"""Small BiRD models, processors and checkpoints with random weights."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.processing_bird import BirdProcessor
from bird_vlm.tokenization_bird import BirdTokenizer, train_small_tokenizer
from elsewhere import KEY
from preannotating import LABELS, ask, save_ward, share
from seeing_server import ModelServer, a_seeing_server
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


@pytest.fixture
def a_server(monkeypatch) -> Iterator[ModelServer]:
    """It finds white blocks; pauses between tries are short."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("bird_vlm.endpoint._LONGEST_PAUSE_S", 0.05)
    with a_seeing_server() as world:
        yield world


@pytest.fixture
def scan(a_phantom_volume, tmp_path) -> Path:
    return a_phantom_volume.save(tmp_path / "phantom.nii.gz")


@pytest.fixture
def a_scan_of_unlike_slices(a_phantom_volume, tmp_path) -> Path:
    """The phantom, its block a voxel longer from slice to slice: answers differ, cached or not."""
    for index in range(3, 7):
        a_phantom_volume.volume.array[4:9, 7 : 11 + index, index] = 200
    return a_phantom_volume.save(tmp_path / "unlike.nii.gz")


@pytest.fixture
def a_picture() -> np.ndarray:
    picture = np.zeros((50, 80), np.uint8)
    picture[10:20, 40:60] = 255
    return picture


@pytest.fixture
def a_ward(tmp_path) -> Path:
    """Four scans that can be read, in two folders, and one that is cut short."""
    return save_ward(tmp_path / "ward")


@pytest.fixture(scope="session")
def the_annotated_ward(bird_mini, tmp_path_factory) -> Path:
    """Asked once for all tests; to be copied."""
    root = save_ward(tmp_path_factory.mktemp("once") / "ward")
    with pytest.MonkeyPatch.context() as patch:
        share(bird_mini, patch)
        assert ask(root, *LABELS).exit_code == 1
    return root


@pytest.fixture
def an_annotated_ward(the_annotated_ward, tmp_path) -> Path:
    """The same scans, with the results of a finished run in the usual place."""
    return Path(shutil.copytree(the_annotated_ward, tmp_path / "ward"))
