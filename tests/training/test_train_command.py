"""`medgrit train` as a user runs it: a plan, a run, one line for whatever can be mended."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import typer
import yaml
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner, Result

from bird_training.commands.train import EPILOG, train
from bird_training.tuning.recipe import RECIPES, load_recipe, recipe_names
from bird_vlm.console import plain_errors
from released_world import texts_of, write_released, write_tiny_model
from tiny_qwen import QWENS, save_tiny

SMALL = ("--recipe", "mini", "--batch", 4, "--tokens", 256, "--set", "workers=0")


@pytest.fixture(scope="module")
def a_train_folder(tmp_path_factory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"), pictures=4)


@pytest.fixture(scope="module")
def a_model_folder(tmp_path_factory, a_train_folder) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), texts_of(a_train_folder))


def medgrit_train(*arguments: object) -> Result:
    app = typer.Typer()
    app.command(epilog=EPILOG)(plain_errors(train))
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_line(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_a_run_prints_its_folder(tmp_path, a_train_folder, a_model_folder):
    out = tmp_path / "run"
    result = medgrit_train(a_train_folder, out, "--model", a_model_folder, *SMALL, "--steps", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(out / "model")]
    assert load_recipe(out / "recipe.yaml").steps == 2
    again = medgrit_train(a_train_folder, out, "--model", a_model_folder, *SMALL)
    assert_one_line(again, "holds a finished run", "name another folder")


def test_a_plan_starts_nothing(tmp_path, a_train_folder, a_model_folder):
    out = tmp_path / "run"
    options = ("--model", a_model_folder, *SMALL, "--plan", "--devices", "8xH100")
    result = medgrit_train(a_train_folder, out, *options)
    assert result.exit_code == 0, result.output
    assert "8 x H100" in result.stdout
    assert "memory of a device" in result.stdout
    assert "16 conversations about 4 pictures" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize("options", [("--plan",), ()], ids=["plan", "run"])
def test_an_incomplete_model_folder_is_one_line(tmp_path, a_train_folder, a_model_folder, options):
    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(a_model_folder / "config.json", part)
    result = medgrit_train(a_train_folder, tmp_path / "run", "--model", part, *SMALL, *options)
    assert_one_line(result, f"model: {part} cannot be loaded")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(("--model", "gpt"), ["'gpt' is no folder here"], id="unknown-model"),
        pytest.param(("--recipe", "best"), ["neither a YAML file nor one of lora"], id="recipe"),
        pytest.param(("--set", "speed=9"), ["no such setting as speed"], id="setting"),
        pytest.param(("--batch", "3", "--micro-batch", "2"), ["no multiple of"], id="batch"),
        pytest.param(("--resume",), ["no whole checkpoint", "without --resume"], id="resume"),
        pytest.param(("--plan", "--devices", "8xTPU"), ["write 8xH100"], id="devices"),
        pytest.param(
            ("--set", "too_long=stop", "--tokens", "40"), ["more than the 40"], id="too-long"
        ),
        pytest.param(("--set", "keep=900000000"), ["are free at", "may need"], id="disk-full"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    tmp_path, a_train_folder, a_model_folder, options, words
):
    out = tmp_path / "run"
    given = ("--model", a_model_folder, *SMALL, *options)
    assert_one_line(medgrit_train(a_train_folder, out, *given), *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda path: path / "nowhere", ["nowhere does not exist"], id="no-data"),
        pytest.param(lambda path: path, ["holds no .json files"], id="empty-folder"),
    ],
)
def test_without_data_nothing_starts(tmp_path, a_model_folder, make, words):
    result = medgrit_train(make(tmp_path), tmp_path / "run", "--model", a_model_folder, *SMALL)
    assert_one_line(result, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("package", ["accelerate", "peft"])
def test_a_lacking_package_is_named(tmp_path, monkeypatch, a_train_folder, a_model_folder, package):
    found = importlib.util.find_spec

    def without(name: str, *rest: object):
        return None if name == package else found(name, *rest)

    for module in ("bird_training.commands.train", "bird_training.tuning.adapters"):
        monkeypatch.setattr(f"{module}.find_spec", without)
    options = ("--model", a_model_folder, *SMALL[2:], "--recipe", "lora", "--micro-batch", 1)
    result = medgrit_train(a_train_folder, tmp_path / "run", *options)
    assert_one_line(result, package, "pip install -e '.[training]'")


def test_help_teaches():
    text = " ".join(medgrit_train("--help").stdout.split())
    for word in ("medgrit train med-grit/train", "--plan", "--resume", "torchrun", "accelerate"):
        assert word in text


def test_one_plan_for_each_number_of_devices(tmp_path, a_train_folder, a_model_folder):
    devices = ("--devices", "1xH100,4xH100,8xH100", "--shard")
    options = ("--model", a_model_folder, *SMALL, "--plan", *devices)
    result = medgrit_train(a_train_folder, tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    for title in ("on each of 1 x H100", "sharded over 4 x H100", "sharded over 8 x H100"):
        assert title in result.stdout


@pytest.mark.parametrize("family", QWENS)
def test_other_families_are_planned_and_trained_alike(tmp_path, a_train_folder, family):
    model = save_tiny(family, tmp_path / "model")
    weights = ("--set", "weights=float32", "--set", "compute=float32", "--set", "workers=0")
    small = ("--recipe", "lora", "--batch", 2, "--tokens", 400, "--steps", 1, *weights)
    plan = medgrit_train(
        a_train_folder, tmp_path / "run", "--model", model, *small, "--plan", "--devices", "H100"
    )
    assert plan.exit_code == 0, plan.output
    assert "fits 80 GiB" in plan.stdout
    done = medgrit_train(a_train_folder, tmp_path / "run", "--model", model, *small)
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(tmp_path / "run" / "model")]


def test_a_family_without_training_is_refused(tmp_path, a_train_folder):
    model = save_tiny("gemma3", tmp_path / "model")
    result = medgrit_train(a_train_folder, tmp_path / "run", "--model", model, *SMALL)
    assert_one_line(
        result, "holds a 'gemma3' model", "fine-tuned can be bird, qwen2_5_vl, qwen3_vl"
    )


def test_pictures_of_one_size_cannot_be_shrunk(tmp_path, a_train_folder, a_model_folder):
    options = ("--model", a_model_folder, *SMALL, "--set", "picture_tokens=64")
    result = medgrit_train(a_train_folder, tmp_path / "run", *options)
    assert_one_line(result, "reads every picture as 16 tokens", "leave it out")


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        pytest.param("fsdp.yaml", "FSDP", "fsdp_config", id="fsdp"),
        pytest.param("zero3.yaml", "DEEPSPEED", "deepspeed_config", id="zero"),
    ],
)
def test_accelerate_reads_the_settings_for_many_gpus(name, kind, part):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(RECIPES / name))
    assert config.distributed_type == kind
    assert getattr(config, part) == yaml.safe_load((RECIPES / name).read_text())[part]
    assert name.partition(".")[0] not in recipe_names()


@pytest.mark.parametrize("family", ["bird", *QWENS])
def test_shards_are_the_blocks_that_the_network_names(tmp_path, a_model_folder, family):
    """fsdp.yaml names none, so accelerate takes these."""
    folder = a_model_folder if family == "bird" else save_tiny(family, tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model._no_split_modules
    assert set(model._no_split_modules) <= {type(module).__name__ for module in model.modules()}
