"""Fixtures of the training: drawn pictures in the layout of the sources, toy models, records."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from bird_training.building import plan as build_plan
from bird_training.records import PictureRecord
from bird_training.regions import Vocabulary
from bird_training.sources.sa_med2d import read_sa_med2d
from bird_training.writers.dialogues import PlacedObject, write_turns
from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.processing_bird import BirdProcessor
from bird_vlm.tokenization_bird import train_small_tokenizer
from build_world import PICTURES, build_here, patients, write_source
from scripted_llm import ScriptedLlm
from small_world import (
    A_LESION,
    ABDOMEN,
    NOTHING,
    TINY_QUERIES,
    TINY_SIZE,
    TWO_EDEMAS,
    a_tiny_bird,
    many_pictures,
    write_sa_med2d,
)


@pytest.fixture(scope="session")
def a_small_folder(tmp_path_factory) -> Path:
    """Four pictures: an abdomen, a brain with two edemas, a brain without, a mole in colour."""
    folder = tmp_path_factory.mktemp("small")
    return write_sa_med2d(folder, [ABDOMEN, TWO_EDEMAS, NOTHING, A_LESION])


@pytest.fixture(scope="session")
def small_records(a_small_folder) -> list[PictureRecord]:
    return read_sa_med2d(a_small_folder)


@pytest.fixture(scope="session")
def a_folder_of_cases(tmp_path_factory) -> Path:
    """Eight patients of each of three data sets."""
    return write_sa_med2d(tmp_path_factory.mktemp("cases"), many_pictures(8))


@pytest.fixture(scope="session")
def many_records(a_folder_of_cases) -> list[PictureRecord]:
    return read_sa_med2d(a_folder_of_cases)


@pytest.fixture(scope="session")
def real_records(shared) -> list[PictureRecord]:
    return read_sa_med2d(shared / "data" / "sa_med2d_mini")


@pytest.fixture(scope="session")
def a_vocabulary(many_records) -> Vocabulary:
    return Vocabulary(many_records)


@pytest.fixture(scope="session")
def a_processor(a_vocabulary) -> BirdProcessor:
    """With a tokenizer of the sentences that training writes."""
    rng = random.Random(0)
    objects = [PlacedObject(label, (10, 20, 345, 678)) for label in a_vocabulary.labels]
    turns = [
        turn
        for _ in range(30)
        for turn in write_turns("ct", "abdomen", objects, ["left kidney"], rng, 12)
    ]
    texts = [text for turn in turns for text in (turn.question, turn.answer)]
    image_processor = BirdImageProcessor(size={"height": TINY_SIZE, "width": TINY_SIZE})
    tokenizer = train_small_tokenizer(texts, vocab_size=400)
    return BirdProcessor(image_processor, tokenizer, num_image_tokens=TINY_QUERIES)


@pytest.fixture
def a_bird(a_processor) -> BirdForConditionalGeneration:
    torch.manual_seed(0)
    return a_tiny_bird(a_processor.tokenizer)


@pytest.fixture(scope="session")
def a_source(tmp_path_factory) -> Path:
    """Of a build: ten patients of each of three data sets, forty pictures."""
    return write_source(tmp_path_factory.mktemp("source"), PICTURES)


@pytest.fixture
def a_source_to_spoil(tmp_path) -> Path:
    return write_source(tmp_path / "source", patients(4))


@pytest.fixture(scope="session")
def a_build(a_source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    build_here(a_source, out, test_fraction=0.2)
    return out


@pytest.fixture
def small_shards(monkeypatch):
    """So that forty pictures are eight parts."""
    monkeypatch.setattr(build_plan, "SHARD", 5)


@pytest.fixture(scope="module")
def a_server():
    with ScriptedLlm() as llm:
        yield llm
