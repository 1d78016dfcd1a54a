"""The table of models, what names mean, what is here, and what fits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from bird_vlm import dialects
from bird_vlm.catalogue.cards import DIALECTS, FAMILIES, FAMILY_DIALECTS, MODEL_TYPES
from bird_vlm.catalogue.installed import (
    cached_models,
    count_parameters,
    folder_card,
    holds_weights,
    model_here,
    shipped_folder,
    shipped_models,
)
from bird_vlm.catalogue.known import KNOWN, known_model
from bird_vlm.catalogue.memory_need import (
    GIB,
    PRECISIONS,
    Room,
    free_memory,
    memory_need,
    widest_fit,
)
from bird_vlm.catalogue.names import Source, check_hub_id, find_source, model_config, model_path
from bird_vlm.errors import CheckpointError

cards = pytest.mark.parametrize("card", [pytest.param(card, id=card.name) for card in KNOWN])


@pytest.fixture
def a_model_folder(tmp_path: Path) -> Path:
    """A folder with 10 parameters in two files, named by an index."""
    folder = tmp_path / "my fine-tune"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3_vl"}')
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for shard, shape in zip(shards, ((2, 3), (4,)), strict=True):
        save_file({shard: np.zeros(shape, np.float16)}, folder / shard)
    index = {"weight_map": dict(zip(("a", "b"), shards, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@cards
def test_a_card_is_one_that_can_be_shown_and_fetched(card):
    assert card.family in FAMILIES
    assert card.dialect in {*DIALECTS, None}
    assert "/" not in card.name
    assert known_model(card.name) is card
    if card.id is None:
        assert card.name in shipped_models()
    else:
        assert check_hub_id(card.id) == card.id
        assert known_model(card.id.upper()) is card
        assert card.link == f"https://huggingface.co/{card.id}"


def test_names_and_ids_are_given_once():
    keys = [key.casefold() for card in KNOWN for key in (card.name, card.id) if key]
    assert len(keys) == len(set(keys))


def test_every_shipped_model_is_in_the_table_with_its_own_size():
    for name in shipped_models():
        assert known_model(name).parameters == count_parameters(shipped_folder(name))


def test_the_dialects_are_those_that_can_be_read():
    assert set(DIALECTS) == set(dialects.DIALECTS)


def test_every_family_has_a_dialect_and_a_model_type():
    assert set(FAMILY_DIALECTS) == set(MODEL_TYPES.values()) == set(FAMILIES)


def test_a_shipped_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bird-mini").mkdir()
    monkeypatch.chdir(tmp_path)
    assert model_path("bird-mini") == shipped_folder("bird-mini")


@pytest.mark.parametrize("name", ["qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", "folder"])
def test_a_folder_wins_over_the_table_and_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert find_source(name) == Source(Path(name), None, None)


@pytest.mark.parametrize(
    ("text", "model_id", "subfolder"),
    [
        pytest.param("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", "", id="short name"),
        pytest.param("Radgrounder", "lmb-freiburg/radgrounder", "detection", id="any case"),
        pytest.param("qwen/qwen-vl-chat", "Qwen/Qwen-VL-Chat", "", id="hub id in any case"),
        pytest.param("some.one/My_Model-2", "some.one/My_Model-2", "", id="another hub id"),
    ],
)
def test_what_is_no_folder_is_a_name_or_a_hub_id(text: str, model_id: str, subfolder: str):
    source = find_source(text)
    assert (source.folder, source.id, source.subfolder) == (None, model_id, subfolder)


def test_a_folder_with_spaces_is_found(a_model_folder: Path):
    assert model_path(str(a_model_folder)) == a_model_folder


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("bird-mimi", "did you mean bird-mini", id="misspelt"),
        pytest.param("no/such/folder", "is no folder here", id="path that is not there"),
        pytest.param("../../no/such/model", "is no folder here", id="path upward"),
        pytest.param("", "is no folder here", id="nothing"),
        pytest.param("bird\0mini", "control characters", id="NUL"),
        pytest.param("bird\x1b[31m", "control characters", id="escape"),
    ],
)
def test_what_names_nothing_is_refused(text: str, reason: str):
    with pytest.raises(CheckpointError, match=reason):
        find_source(text)


def test_a_file_and_an_empty_folder_are_no_models(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"without a config\.json"):
        find_source(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="is a file; name the folder"):
        find_source(tmp_path / "model.safetensors")


def test_a_folder_tells_its_family_and_size(a_model_folder: Path):
    card = folder_card(a_model_folder)
    assert (card.name, card.family, card.dialect) == ("my fine-tune", "qwen3-vl", "qwen3-vl")
    assert card.parameters == 10
    assert card.licence is card.research_only is card.image_size is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        pytest.param(None, r"holds no config\.json", id="none"),
        pytest.param("{", "not valid JSON", id="broken"),
        pytest.param("[]", "must hold a JSON object, got a list", id="a list"),
    ],
)
def test_a_folder_without_a_config_is_refused(tmp_path: Path, config: str | None, reason: str):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=reason):
        folder_card(tmp_path)


def test_a_damaged_file_of_weights_is_named(a_model_folder: Path):
    (a_model_folder / "model-00001-of-00002.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002\.safetensors cannot be read"):
        folder_card(a_model_folder)


def test_a_missing_shard_is_seen(a_model_folder: Path):
    assert holds_weights(a_model_folder)
    (a_model_folder / "model-00002-of-00002.safetensors").unlink()
    assert not holds_weights(a_model_folder)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("model.safetensors", True),
        ("pytorch_model.bin", True),
        ("model-00001-of-00002.safetensors", False),
        ("training_args.bin", False),
        ("tokenizer.json", False),
    ],
)
def test_weights_without_an_index(tmp_path: Path, name: str, whole: bool):
    (tmp_path / name).touch()
    assert holds_weights(tmp_path) is whole


def test_an_empty_cache_holds_nothing(tmp_path: Path):
    assert cached_models(tmp_path / "none") == {}
    assert model_here(known_model("qwen3-vl-4b"), tmp_path) is None
    assert model_here(known_model("bird-mini"), tmp_path) == shipped_folder("bird-mini")


def test_the_need_is_weights_and_what_the_docstring_allows():
    billion = 10**9
    assert memory_need(billion, "float32") == 4.4e9 + GIB
    assert memory_need(billion, "bf16") == 2.2e9 + GIB
    assert memory_need(billion, "int8") == pytest.approx(0.3e9 + 0.85e9 + 0.2e9 + GIB)
    assert memory_need(billion, "int4") == pytest.approx(0.3e9 + 0.425e9 + 0.2e9 + GIB)


@given(parameters=st.integers(10**5, 10**12), free=st.integers(0, 10**13))
def test_the_widest_that_fits_fits_and_the_next_wider_does_not(parameters: int, free: int):
    fit = widest_fit(parameters, Room("cuda", "", free))
    ways = PRECISIONS[1:]
    too_wide = ways[: ways.index(fit)] if fit else ways
    assert all(memory_need(parameters, way) > free for way in too_wide)
    assert fit is None or memory_need(parameters, fit) <= free


def test_a_processor_computes_in_float32_or_not_at_all():
    need = math.ceil(memory_need(10**9, "float32"))
    assert widest_fit(10**9, Room("cpu", "", need)) == "float32"
    assert widest_fit(10**9, Room("cpu", "", need - 1)) is None


def test_main_memory_is_counted():
    room = free_memory("cpu")
    assert room.kind == "cpu"
    assert 2**20 < room.free < 2**50


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", "", "mps"])
def test_another_device_is_refused(device: str):
    with pytest.raises(CheckpointError, match=r"device: must be cpu, cuda or cuda:N"):
        free_memory(device)


def test_an_accelerator_that_is_not_there_is_refused():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(CheckpointError, match=f"no such CUDA device, got '{missing}'"):
        free_memory(missing)


def test_without_a_device_the_best_is_taken():
    assert free_memory().kind == ("cuda" if torch.cuda.is_available() else "cpu")


def test_an_adapter_whose_model_is_gone_is_told(tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    base = tmp_path / "base"
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert model_path(adapter) == adapter
    with pytest.raises(CheckpointError, match="base', which is not here"):
        model_config(adapter)
