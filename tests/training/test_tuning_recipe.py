"""Recipes: the shipped ones say what the paper says, changes are checked, files come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bird_training.tuning.recipe import (
    Recipe,
    check_same,
    load_recipe,
    make_recipe,
    parse_changes,
    recipe_names,
    save_recipe,
)
from bird_vlm.errors import BirdError


def test_the_papers_recipe_is_the_papers():
    paper = load_recipe("paper")
    assert paper.frozen == ("vision",)
    assert paper.trained == ("bridge",)
    assert (paper.learning_rate, paper.batch, paper.epochs) == (2e-5, 128, 2)
    assert (paper.warm_up, paper.weight_decay, paper.adam_beta2) == (0.01, 0.1, 0.95)
    assert (paper.tokens, paper.compute, paper.gradient_checkpointing) == (2048, "bfloat16", True)


def test_every_shipped_recipe_loads():
    assert recipe_names() == ["lora", "mini", "paper"]
    assert load_recipe("lora").lora_saved == ("bridge",)
    assert all(load_recipe(name).keep >= 2 for name in recipe_names())


def test_a_recipe_comes_back_from_its_file(tmp_path):
    recipe = load_recipe("lora", {"steps": 7, "learning_rate": 3e-4})
    save_recipe(recipe, tmp_path / "recipe.yaml", data="here", model="there")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert (tmp_path / "recipe.yaml").read_text().startswith("# data: here\n# model: there\n")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        pytest.param("learning_rate=2e-5", "learning_rate", 2e-5, id="yaml-takes-it-for-a-text"),
        pytest.param("epochs=3", "epochs", 3.0, id="integer-as-float"),
        pytest.param("merge=false", "merge", False, id="bool"),
        pytest.param("steps=null", "steps", None, id="none"),
        pytest.param("frozen=[a.b, lm_head]", "frozen", ("a.b", "lm_head"), id="list"),
    ],
)
def test_any_setting_can_be_changed(text, name, value):
    assert getattr(load_recipe("paper", parse_changes([text])), name) == value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"learning_rat": 1}, "learning_rat (did you mean learning_rate?)", id="close"),
        pytest.param({"zzz": 1}, "no such setting as zzz; there are", id="unknown"),
        pytest.param({"weights": "float16"}, "weights: must be float32 or bfloat16", id="half"),
        pytest.param({"learning_rate": "fast"}, "learning_rate: must be a number", id="text"),
        pytest.param({"learning_rate": 0}, "learning_rate: must be above 0, got 0", id="zero"),
        pytest.param({"batch": 1.5}, "batch: must be int, got 1.5", id="half"),
        pytest.param({"batch": True}, "batch: must be int, got True", id="yes"),
        pytest.param({"method": "magic"}, "method: must be full or lora", id="choice"),
        pytest.param({"frozen": "model"}, "frozen: must be", id="no-list"),
        pytest.param({"keep": 1}, "keep: must be at least 2", id="one-checkpoint"),
        pytest.param({"steps": 0}, "steps: must be at least 1", id="no-steps"),
        pytest.param(
            {"weights": "bfloat16", "compute": "float32"}, "weights: must be float32", id="types"
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(BirdError) as caught:
        load_recipe("paper", changes)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["epochs", "epochs=[1", "=3"])
def test_a_change_must_be_name_and_value(text):
    with pytest.raises(BirdError, match=r"set: |no such setting"):
        load_recipe("paper", parse_changes([text]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "neither a YAML file nor one of lora, mini, paper", id="missing"),
        pytest.param("- a\n- b\n", "must hold `name: value` lines", id="list"),
        pytest.param("a: [", "cannot be read", id="broken"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content, words):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BirdError) as caught:
        load_recipe(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("devices", "accumulation"), [(1, 64), (4, 16), (64, 1)], ids=["one", "four", "all"]
)
def test_the_global_batch_stays_the_same(devices, accumulation):
    assert Recipe(batch=128, micro_batch=2).accumulation(devices) == accumulation


def test_a_batch_that_does_not_split_is_refused():
    with pytest.raises(BirdError, match="batch: 128 is no multiple of micro_batch 2 x 3"):
        Recipe(batch=128, micro_batch=2).accumulation(3)


def test_steps_follow_from_the_data_or_are_given():
    assert Recipe(batch=128, epochs=2).steps_for(1000) == 2 * 8
    assert Recipe(batch=128, steps=5).steps_for(1000) == 5


def test_a_resumed_run_may_change_how_but_not_what():
    begun = make_recipe({"seed": 1})
    check_same(begun, replace(begun, micro_batch=4, save_every=7, workers=0))
    with pytest.raises(BirdError, match="resume: learning_rate was"):
        check_same(begun, replace(begun, learning_rate=1e-3))
