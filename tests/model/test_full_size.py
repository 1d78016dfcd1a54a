"""Qwen-VL-Chat in its full size, from the published index, by the way of `--model DIR`.

The files of weights are hollow: whole headers, and holes where 18 GiB of numbers would stand. They
are mapped and not read, so that every tensor finds its place in a gigabyte of memory.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from bird_vlm.backbones.bird import BirdEngine
from bird_vlm.catalogue.installed import count_parameters, holds_weights
from bird_vlm.catalogue.known import known_model
from bird_vlm.checkpoints import tensor_shapes
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.engine import load_engine
from bird_vlm.errors import CheckpointError
from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.layouts import config_from_original, source_of
from bird_vlm.processing_bird import BirdProcessor
from bird_vlm.running import Running
from bird_vlm.tokenization_bird import tokenizer_from_tiktoken

pytestmark = [pytest.mark.shared, pytest.mark.slow]
BYTES = 2  # of a bfloat16


@pytest.fixture(scope="module")
def published(shared: Path) -> Path:
    return shared / "golden/qwen_vl_chat_files"


@pytest.fixture(scope="module")
def a_hollow_folder(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `bird convert` makes it, each tensor in the file in which the index has its source."""
    folder = tmp_path_factory.mktemp("full") / "qwen-vl-chat"
    config = config_from_original(json.loads((published / "config.json").read_text()))
    config.architectures = ["BirdForConditionalGeneration"]
    config.save_pretrained(folder)
    _save_processor(config, published / "qwen.tiktoken", folder)
    index = json.loads((published / "pytorch_model.bin.index.json").read_text())
    files: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in tensor_shapes(config).items():
        stored = index["weight_map"][source_of(name, len(shape), "qwen").name]
        files.setdefault(f"{Path(stored).stem}.safetensors", {})[name] = shape
    for stored, shapes in files.items():
        _write_hollow(folder / stored, shapes)
    places = {name: stored for stored, shapes in files.items() for name in shapes}
    ours = {"metadata": index["metadata"], "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(ours))
    return folder


def _save_processor(config: BirdConfig, ranks: Path, folder: Path) -> None:
    side = config.vision_config.image_size
    image_processor = BirdImageProcessor(size={"height": side, "width": side})
    tokenizer = tokenizer_from_tiktoken(ranks)
    BirdProcessor(image_processor, tokenizer, config.vision_config.num_queries).save_pretrained(
        folder
    )


def _write_hollow(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of bfloat16 tensors, zeros that no disk holds."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + BYTES * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.fixture(scope="module")
def an_engine(a_hollow_folder: Path) -> BirdEngine:
    return load_engine(a_hollow_folder, Running("cpu", "bfloat16"))


def test_every_tensor_is_placed(published: Path, a_hollow_folder: Path, an_engine: BirdEngine):
    index = json.loads((published / "pytorch_model.bin.index.json").read_text())
    tensors = an_engine.model.state_dict()
    total = sum(tensor.numel() for tensor in tensors.values())
    assert BYTES * total == index["metadata"]["total_size"]
    assert total == known_model("qwen-vl-chat").parameters == count_parameters(a_hollow_folder)
    assert {tensor.device.type for tensor in tensors.values()} == {"cpu"}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert holds_weights(a_hollow_folder)


def test_it_reads_with_the_published_words(an_engine: BirdEngine):
    config, processor = an_engine.model.config, an_engine.processor
    assert processor.image_token_id == config.image_token_id == 151859
    assert processor.num_image_tokens == config.vision_config.num_queries == 256
    assert an_engine.card.known_labels == set()


def test_it_loads_on_the_meta_device(a_hollow_folder: Path):
    network, report = AutoModelForImageTextToText.from_pretrained(
        a_hollow_folder, device_map="meta", output_loading_info=True, local_files_only=True
    )
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_one_tensor_less_is_told(a_hollow_folder: Path, tmp_path: Path):
    for path in a_hollow_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    index = json.loads((a_hollow_folder / "model.safetensors.index.json").read_text())
    lost = "model.vision_tower.attn_pool.query"
    stored = index["weight_map"].pop(lost)
    _without(tmp_path / stored, [n for n, s in index["weight_map"].items() if s == stored])
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=rf"lacks weights: {lost}$"):
        load_engine(tmp_path, Running("cpu", "bfloat16"))


def _without(path: Path, names: list[str]) -> None:
    shapes = tensor_shapes(BirdConfig.from_pretrained(path.parent))
    path.unlink()
    _write_hollow(path, {name: shapes[name] for name in names})
