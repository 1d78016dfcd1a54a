"""From a folder to an engine: which code, which dialect, which numbers; and no network at all."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from bird_vlm.backbones.chat import ChatEngine
from bird_vlm.backbones.chat_dialect import find_dialect
from bird_vlm.engine import load_engine
from bird_vlm.errors import CheckpointError
from bird_vlm.running import Running
from tiny_families import save_tiny

FAMILIES = ("qwen2.5-vl", "qwen3-vl", "gemma3", "paligemma")
ON_CPU = Running("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("models")
    return {family: save_tiny(family, parent / family) for family in FAMILIES}


@pytest.fixture
def a_copy(folders, tmp_path: Path):
    def copy(family: str, name: str = "copy", **settings: object) -> Path:
        folder = Path(shutil.copytree(folders[family], tmp_path / name))
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return folder

    return copy


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("no_network")
def test_a_folder_is_loaded_without_the_network(folders, family: str):
    engine = load_engine(folders[family], ON_CPU)
    assert isinstance(engine, ChatEngine)
    assert engine.dialect.name == family
    assert (engine.card.id, engine.card.device, engine.card.note) == (family, "cpu", "")
    assert engine.card.labels == {}


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.usefixtures("no_network")
def test_offline_a_model_that_is_elsewhere_is_not_fetched(variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(CheckpointError, match="nobody/no-such-model"):
        load_engine("nobody/no-such-model", ON_CPU)


def test_a_fine_tunes_labels_are_those_of_its_folder(a_copy):
    folder = a_copy("qwen3-vl")
    (folder / "labels.json").write_text('{"ct": ["liver"]}')
    assert load_engine(folder, ON_CPU).card.known_labels == {"liver"}


@pytest.mark.parametrize(
    ("name", "setting", "dialect"),
    [
        pytest.param("my-model", None, "paligemma", id="of the family"),
        pytest.param("radgrounder", None, "radgrounder", id="of the card"),
        pytest.param("lmb-freiburg/radgrounder", None, "radgrounder", id="of the card's hub id"),
        pytest.param("medgemma-1.5-4b", None, "paligemma", id="not of another family's card"),
        pytest.param("my-model", "radgrounder", "radgrounder", id="of the folder"),
        pytest.param("radgrounder", "paligemma", "paligemma", id="of the folder first"),
    ],
)
def test_a_dialect_is_found(a_copy, name: str, setting: str | None, dialect: str):
    settings = {} if setting is None else {"box_dialect": setting}
    found, note = find_dialect(a_copy("paligemma", **settings), name)
    assert (found.name, note) == (dialect, "")


def test_a_card_without_a_dialect_is_asked_as_its_family_and_says_so(a_copy):
    engine = load_engine(a_copy("gemma3", name="medgemma-4b"), ON_CPU)
    assert engine.dialect.name == "gemma3"
    assert "medgemma-4b writes boxes is not published" in engine.card.note


@pytest.mark.parametrize("setting", ["klingon", 7, ["gemma3"]])
def test_a_dialect_that_there_is_not_is_refused(a_copy, setting):
    with pytest.raises(CheckpointError, match=r"config\.json.* has box_dialect .*known are"):
        load_engine(a_copy("gemma3", box_dialect=setting), ON_CPU)


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", None, 3])
def test_an_unknown_family_is_refused_with_the_known_ones(a_copy, kind):
    with pytest.raises(CheckpointError, match=rf"{kind!r} model; .*qwen3_vl.*bird models"):
        load_engine(a_copy("qwen3-vl", model_type=kind), ON_CPU)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("model.safetensors", "cannot be loaded", id="no weights"),
        pytest.param("tokenizer.json", "a tokenizer that is not its network's", id="no words"),
        pytest.param("preprocessor_config.json", "cannot be loaded", id="no sizes"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(a_copy, name: str, said: str):
    folder = a_copy("qwen2.5-vl")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=said):
        load_engine(folder, ON_CPU)


@pytest.mark.parametrize("family", FAMILIES)
def test_truncated_weights_are_refused(a_copy, family: str):
    weights = a_copy(family) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_engine(weights.parent, ON_CPU)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"text_config": {"hidden_size": "wide"}}, id="no number"),
        pytest.param({"text_config": []}, id="no settings"),
        pytest.param({"vision_config": {"hidden_size": 24}}, id="another size"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(a_copy, family: str, broken: dict):
    with pytest.raises(CheckpointError):
        load_engine(a_copy(family, **broken), ON_CPU)


def test_sampling_and_penalties_of_a_folder_do_not_reach_answers(folders):
    published = GenerationConfig.from_pretrained(folders["qwen2.5-vl"])
    assert published.do_sample
    assert published.repetition_penalty > 1
    used = load_engine(folders["qwen2.5-vl"], ON_CPU).network.generation_config
    assert not used.do_sample
    assert used.repetition_penalty in (None, 1.0)
    assert set(used.eos_token_id) >= set(published.eos_token_id)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "running",
    [
        pytest.param(Running("cpu", "bfloat16"), id="bfloat16"),
        pytest.param(Running("cpu", "float16"), id="float16"),
        pytest.param(Running("cpu", quantize="int8"), id="int8"),
        pytest.param(Running("cpu", quantize="int4"), id="int4"),
    ],
)
def test_a_model_answers_in_the_numbers_that_were_asked_for(folders, family: str, running: Running):
    if running.quantize and not importlib.util.find_spec("bitsandbytes"):
        pytest.skip("needs bitsandbytes")
    engine = load_engine(folders[family], running)
    kinds = {type(module).__name__ for module in engine.network.modules()}
    if running.quantize:
        assert {"int8": "Linear8bitLt", "int4": "Linear4bit"}[running.quantize] in kinds
    else:
        assert engine.network.dtype == getattr(torch, running.precision)
    [[answer]] = engine.ground(engine.encode([np.full((40, 40), 99, np.uint8)]), ["liver"], 1.0)
    assert 0 <= answer.presence <= 1


@pytest.mark.parametrize("device", ["meta", "mps", "gpu", "cuda:x"])
def test_a_device_that_models_do_not_run_on_is_refused(folders, device: str):
    with pytest.raises(CheckpointError, match=rf"device: must be cpu, cuda or .*{device!r}"):
        load_engine(folders["gemma3"], Running(device))


def test_a_file_that_lacks_an_entry_is_told(a_copy):
    folder = a_copy("gemma3")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(CheckpointError, match="an entry 'metadata' is missing"):
        load_engine(folder, ON_CPU)


def test_pictures_are_their_own_features(folders):
    engine = load_engine(folders["qwen3-vl"], ON_CPU)
    grey = np.random.default_rng(0).integers(0, 255, (2, 30, 20), dtype=np.uint8)
    colour = np.random.default_rng(0).integers(0, 255, (2, 30, 20, 3), dtype=np.uint8)
    for pictures in (grey, colour):
        features = engine.encode(list(pictures))
        assert features.dtype == torch.uint8
        assert np.array_equal(features.numpy(), pictures)


@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen3-vl"])
def test_an_adapter_is_loaded_with_the_model_that_it_adapts(folders, tmp_path: Path, family: str):
    peft = pytest.importorskip("peft")
    base = load_engine(folders[family], ON_CPU)
    picture = base.encode([np.full((40, 40), 99, np.uint8)])
    [[before]] = base.ground(picture, ["liver"], 1.0)
    adapter = Path(shutil.copytree(folders[family], tmp_path / "adapter"))
    for name in ("config.json", "model.safetensors"):
        (adapter / name).unlink()
    changes = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False, r=4)
    adapted = peft.get_peft_model(base.network, changes)
    adapted.save_pretrained(adapter)
    [[expected]] = base.ground(picture, ["liver"], 1.0)
    engine = load_engine(adapter, ON_CPU)
    [[answer]] = engine.ground(picture, ["liver"], 1.0)
    assert engine.dialect.name == family
    assert answer.presence == pytest.approx(expected.presence, abs=1e-5)
    assert answer.presence != pytest.approx(before.presence, abs=1e-3)
