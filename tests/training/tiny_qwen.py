"""Tiny Qwen folders and data for the training's tests; the folders are `tiny_families`'s.

Pictures differ in size, so that rows hold pictures of different numbers of tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from bird_training.conversations import Conversation, Exchange
from bird_training.packing import IGNORED
from bird_training.tuning.chat_tokens import TokenTable
from bird_training.tuning.qwen_reader import QwenReader
from bird_training.tuning.recipe import Recipe, load_recipe
from bird_training.tuning.starting import Start, load_start
from released_world import there, where
from tiny_families import save_tiny

QWENS = ("qwen2.5-vl", "qwen3-vl")
SIZES = ((150, 100), (70, 200), (97, 131))  # width, height
QUICK = {
    "weights": "float32",
    "compute": "float32",
    "saved": "float32",
    "lora_rank": 4,
    "lora_dropout": 0.0,
    "tokens": 512,
    "batch": 4,
    "micro_batch": 2,
    "workers": 0,
    "log_every": 1,
}


def quick(name: str, **changes) -> Recipe:
    """A shipped recipe, small and exact."""
    return load_recipe(name, QUICK | changes)


def a_start(family: str, folder: Path, **changes) -> Start:
    """A tiny model of the family, loaded as a training loads it."""
    if not folder.exists():
        save_tiny(family, folder)
    return load_start(folder, quick("lora", **changes))


def some_pictures(folder: Path) -> list[Path]:
    paths = []
    for number, (width, height) in enumerate(SIZES):
        grey = np.random.default_rng(number).integers(0, 255, (height, width), dtype=np.uint8)
        paths.append(folder / f"ct_{number}.png")
        Image.fromarray(grey).save(paths[-1])
    return paths


def some_talks(paths: list[Path]) -> list[Conversation]:
    """Four about the first picture, one about the second, one that brings in the third later."""
    a, b, c = ((path,) for path in paths)
    talks = [
        (Exchange(where("liver"), there("liver", 0), a),),
        (Exchange(where("heart"), "The heart is not present in the image.", a),),
        (Exchange("What is it?", "A CT.", b), Exchange(where("spleen"), there("spleen", 3))),
        (Exchange("First?", "One.", b), Exchange("Second?", "Two.", c)),
    ]
    return [Conversation(f"ct_{n}", f"VG.json, {n}", talk) for n, talk in enumerate(talks)]


def alone(network: PreTrainedModel, table: TokenTable, index: int, reader: QwenReader):
    """Logits that predict the answers of conversation `index`, positions being the network's."""
    ids, labels = (torch.tensor(row) for row in table.row(index))
    paths = [table.paths[row] for row in table.pictures[index]]
    logits = network(
        input_ids=ids[None],
        mm_token_type_ids=(ids == reader.image_token_id).int()[None],
        **reader.pixels([np.asarray(Image.open(path)) for path in paths]),
    ).logits[0]
    return logits[:-1][labels[1:] != IGNORED]
