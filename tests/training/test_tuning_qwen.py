"""Qwen2.5-VL and Qwen3-VL as they are trained: tokens, positions, packs, and whole runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from bird_training.packing import IGNORED
from bird_training.tuning.chat_tokens import TokenTable, tokenize
from bird_training.tuning.packs import PackDataset
from bird_training.tuning.recipe import RECIPES, save_recipe
from bird_training.tuning.starting import Start, load_start
from bird_training.tuning.tuning import tune
from bird_vlm.engine import load_engine
from bird_vlm.errors import BirdError
from bird_vlm.running import Running
from released_world import there, write_released
from tiny_qwen import QWENS, SIZES, a_start, alone, quick, save_tiny, some_pictures, some_talks

LIMIT = 480


@pytest.fixture(scope="module", params=QWENS)
def a_qwen(request, tmp_path_factory) -> Start:
    return a_start(request.param, tmp_path_factory.mktemp("qwen") / "model")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    return some_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def a_table(a_qwen, pictures) -> TokenTable:
    talks = [own for talk in some_talks(pictures) for own in a_qwen.reader.reworded(talk)]
    return tokenize(talks, a_qwen.reader, limit=LIMIT)


@pytest.fixture(scope="module")
def a_train_folder(tmp_path_factory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"), pictures=3)


def losses(out: Path) -> list[float]:
    log = json.loads((out / "finished.json").read_text())["log"]
    return [entry["loss"] for entry in log if "loss" in entry]


def test_a_picture_has_the_tokens_that_the_processor_gives_it(a_qwen, pictures):
    for path, (width, height) in zip(pictures, SIZES, strict=True):
        made = a_qwen.reader.pixels([np.asarray(Image.open(path))])
        grid = made["image_grid_thw"][0]
        shown = a_qwen.reader.shown(path)
        assert a_qwen.reader.picture_tokens(path) == int(grid.prod()) // 4
        assert (shown.width, shown.height) == (width, height)
        patch = a_qwen.reader.side // 2
        assert [shown.input_height, shown.input_width] == (grid[1:] * patch).tolist()


def test_grey_pictures_and_colour_ones_are_seen(a_qwen):
    grey = np.random.default_rng(0).integers(0, 255, (60, 80), dtype=np.uint8)
    made = a_qwen.reader.pixels([grey, np.stack([grey] * 3, axis=-1)])
    one, other = made["pixel_values"].chunk(2)
    torch.testing.assert_close(one, other)


def test_answers_and_their_ends_are_learnt(a_qwen, a_table):
    reader = a_qwen.reader
    learnt = [[t for t in a_table.row(i)[1] if t != IGNORED] for i in range(len(a_table))]
    texts = reader.tokenizer.batch_decode(learnt)
    grid = reader.dialect.grid(reader.shown(a_table.paths[0]))
    liver = json.dumps([{"bbox_2d": grid.write((100, 120, 400, 511)), "label": "liver"}])
    assert texts[:4] == [
        f"{liver}<|im_end|>",
        "Yes<|im_end|>",
        "[]<|im_end|>",
        "No<|im_end|>",
    ]


def test_prompts_are_those_of_the_engine(a_qwen, a_table, pictures, tmp_path):
    """Up to the answer the tokens are what the product feeds the model."""
    engine = load_engine(a_qwen.folder, Running("cpu"))
    picture = Image.open(pictures[0]).convert("RGB")
    prompts = [engine.dialect.grounding_prompt("liver"), engine.presence.prompt("liver")]
    for index, prompt in enumerate(prompts):
        asked = engine.inputs.of([picture], [prompt])
        ids, labels = a_table.row(index)
        begins = next(place for place, label in enumerate(labels) if label != IGNORED)
        assert ids[:begins] == asked["input_ids"][0].tolist()


def test_positions_are_those_of_the_network(a_qwen, a_table):
    for index in range(len(a_table)):
        ids = torch.tensor(a_table.row(index)[0])
        paths = [a_table.paths[row] for row in a_table.pictures[index]]
        pixels = a_qwen.reader.pixels([np.asarray(Image.open(path)) for path in paths])
        wanted, _ = a_qwen.network.model.get_rope_index(
            ids[None],
            (ids == a_qwen.reader.image_token_id).int()[None],
            image_grid_thw=pixels["image_grid_thw"],
        )
        assert (a_qwen.reader.positions(ids.tolist(), paths) == wanted[:, 0].numpy()).all()


@pytest.mark.parametrize("share", [True, False], ids=["shared", "in-a-row"])
@torch.inference_mode()
def test_packed_logits_are_those_of_each_conversation_alone(a_qwen, a_table, share):
    network = a_qwen.network.eval()
    dataset = PackDataset(a_table, a_qwen.reader, tokens=LIMIT, batch=4, share=share, seed=0)
    assert any(len(pack) > 1 for pack in dataset.packs)
    rows = range(len(dataset.packs))
    batch = dataset.collate([dataset[row] for row in rows])
    assert ("attention_mask" in batch) == share
    labels = batch.pop("labels")
    logits = network(**batch).logits
    for row, pack in zip(rows, dataset.packs, strict=True):
        apart = [alone(network, a_table, i, a_qwen.reader) for group in pack for i in group]
        together = logits[row, :-1][labels[row, 1:] != IGNORED]
        torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=0)


def test_larger_pictures_are_shrunk_to_what_is_asked_for(a_qwen, pictures, tmp_path):
    start = load_start(a_qwen.folder, quick("lora", picture_tokens=6))
    assert all(start.reader.picture_tokens(path) <= 6 for path in pictures)
    start.network.save_pretrained(tmp_path / "result")
    start.reader.save(tmp_path / "result")
    engine = load_engine(tmp_path / "result", Running("cpu"))  # shows pictures as they were learnt
    picture = Image.open(pictures[0]).convert("RGB")
    assert engine.inputs.shown(picture) == start.reader.shown(pictures[0])
    assert engine.inputs.shown(picture) != a_qwen.reader.shown(pictures[0])


@pytest.mark.parametrize("family", QWENS)
def test_adapters_are_trained_resumed_merged_and_answer(tmp_path, a_train_folder, family):
    model = save_tiny(family, tmp_path / "start")
    recipe = quick("lora", steps=4, save_every=2, learning_rate=3e-3)
    outcome = tune(a_train_folder, tmp_path / "run", str(model), recipe)
    assert outcome.folder == tmp_path / "run" / "model"
    first = load_file(outcome.folder / "model.safetensors")

    (tmp_path / "run" / "finished.json").unlink()  # as a kill before the end leaves it
    tune(a_train_folder, tmp_path / "run", str(model), recipe, resume=True)
    again = load_file(outcome.folder / "model.safetensors")
    before = load_file(model / "model.safetensors")
    assert first.keys() == again.keys() == before.keys()
    for name, value in first.items():
        torch.testing.assert_close(again[name], value, atol=1e-5, rtol=0)
    moved = {name for name in before if (before[name] != first[name]).any()}
    assert any(".merger." in name for name in moved)
    assert any("deepstack" in name for name in moved) == (family == "qwen3-vl")
    assert not any(".blocks." in name for name in moved)

    engine = load_engine(outcome.folder, Running("cpu"))
    features = engine.encode([np.zeros((40, 50), dtype=np.uint8)])
    ((answer,),) = engine.ground(features, ["liver"], threshold=0.0)
    assert 0 < answer.presence < 1


@pytest.mark.parametrize("family", QWENS)
def test_a_whole_model_learns_but_for_its_frozen_vision(tmp_path, a_train_folder, family):
    model = save_tiny(family, tmp_path / "start")
    recipe = quick("paper", steps=8, learning_rate=5e-3, share_pictures=True)
    tune(a_train_folder, tmp_path / "run", str(model), recipe)
    curve = losses(tmp_path / "run")
    assert curve[-1] < 0.8 * curve[0]
    before = load_file(model / "model.safetensors")
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    still = {name for name in before if torch.equal(before[name], after[name])}
    vision = {name for name in before if "visual." in name}
    assert still == {name for name in vision if "merger" not in name}


def test_accumulation_changes_nothing(tmp_path, a_train_folder):
    """Qwen's own classes would take the mean per row; here it is over a step's tokens."""
    model = save_tiny("qwen3-vl", tmp_path / "start")
    for micro_batch in (1, 4):
        recipe = quick("paper", steps=3, learning_rate=3e-3, micro_batch=micro_batch)
        tune(a_train_folder, tmp_path / str(micro_batch), str(model), recipe)
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "4"), abs=1e-4)


@pytest.mark.slow
def test_shards_on_two_processes_give_the_curve_and_the_model_of_one(tmp_path, a_train_folder):
    """With the settings that users get, but for the number of processes and the device."""
    model = save_tiny("qwen3-vl", tmp_path / "start")
    recipe = quick("paper", steps=3, learning_rate=3e-3, micro_batch=1)
    tune(a_train_folder, tmp_path / "one", str(model), recipe)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    settings = yaml.safe_load((RECIPES / "fsdp.yaml").read_text())
    settings |= {"mixed_precision": "no", "num_processes": 2, "use_cpu": True}
    (tmp_path / "fsdp.yaml").write_text(yaml.safe_dump(settings))
    launch = ["accelerate.commands.launch", "--config_file", str(tmp_path / "fsdp.yaml")]
    train = ["-m", "bird_training.cli", "train", str(a_train_folder), str(tmp_path / "two")]
    chosen = ["--model", str(model), "--recipe", str(tmp_path / "recipe.yaml")]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *train, *chosen],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=2e-3)
    one, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-3, rtol=0)


def test_tied_weights_are_stored_once(tmp_path, a_train_folder):
    model = save_tiny("qwen3-vl", tmp_path / "start")
    settings = json.loads((model / "config.json").read_text())
    settings["tie_word_embeddings"] = True
    (model / "config.json").write_text(json.dumps(settings))
    weights = load_file(model / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    tune(a_train_folder, tmp_path / "run", str(model), quick("paper", steps=2))
    stored = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert "lm_head.weight" not in stored
    load_engine(tmp_path / "run" / "model", Running("cpu"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"picture_tokens": 2}, "picture_tokens: must be at least 4", id="too-few"),
        pytest.param({"tokens": 9999}, "tokens: 9999 are more than this model's 2048", id="long"),
        pytest.param({"lora_saved": ["attn_pool"]}, "no module attn_pool", id="other-family"),
    ],
)
def test_what_does_not_fit_the_family_is_refused(tmp_path, a_qwen, a_train_folder, changes, words):
    with pytest.raises(BirdError, match=words):
        tune(a_train_folder, tmp_path / "run", str(a_qwen.folder), quick("lora", **changes))
    assert not (tmp_path / "run").exists()


def test_a_malformed_box_is_named_with_its_record(tmp_path, a_qwen):
    data = write_released(tmp_path / "data", pictures=1)
    records = json.loads((data / "VG.json").read_text())
    records[0]["conversations"][0][1] = there("liver", 0).replace("(100,", "(9999,")
    (data / "VG.json").write_text(json.dumps(records))
    with pytest.raises(BirdError, match=r"VG\.json, record 1 .*exceeds 1000.*correct the record"):
        tune(data, tmp_path / "run", str(a_qwen.folder), quick("lora"))
