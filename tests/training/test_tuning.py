"""Real fine-tunings of a toy model: they learn, go on after a kill as if unbroken, and split."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForImageTextToText

from bird_training.evaluation.predict import RUN_FILE
from bird_training.tuning.checkpoints import checkpoints, is_whole, last_whole, step_of
from bird_training.tuning.recipe import load_recipe
from bird_training.tuning.runs import Run
from bird_training.tuning.tuning import Outcome, tune
from bird_vlm.engine import load_engine
from bird_vlm.errors import BirdError
from bird_vlm.running import Running
from released_world import texts_of, write_released, write_tiny_model

STEPS = 12
QUICK = {
    "saved": "float32",  # to compare runs number by number
    "batch": 4,
    "micro_batch": 2,
    "tokens": 256,
    "steps": STEPS,
    "learning_rate": 3e-3,
    "workers": 0,
    "save_every": 3,
    "log_every": 1,
}
COMMAND = """
import typer
from bird_training.commands.train import train
from bird_vlm.console import plain_errors
app = typer.Typer()
app.command()(plain_errors(train))
app()
"""


@pytest.fixture(scope="module")
def a_train_folder(tmp_path_factory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"), pictures=12)


@pytest.fixture(scope="module")
def a_model_folder(tmp_path_factory, a_train_folder) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), texts_of(a_train_folder))


@pytest.fixture(scope="module")
def run(a_train_folder, a_model_folder):
    """Fine-tunes the toy model in this process."""

    def running(out: Path, *, name: str = "mini", resume: bool = False, **changes) -> Outcome:
        recipe = load_recipe(name, QUICK | changes)
        return tune(a_train_folder, out, str(a_model_folder), recipe, resume=resume)

    return running


@pytest.fixture(scope="module")
def an_unbroken_run(tmp_path_factory, run) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert run(out).folder == out / "model"
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def assert_same_weights(one: Path, other: Path, within: float) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=within, rtol=0)


def losses(out: Path) -> dict[int, float]:
    log = json.loads((out / "finished.json").read_text())["log"]
    return {entry["step"]: entry["loss"] for entry in log if "loss" in entry}


def wait_for(path: Path, process: subprocess.Popen | None = None, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.005)


def command_line(data: Path, out: Path, model: Path, **changes) -> list[str]:
    settings = [f"--set={name}={value}" for name, value in (QUICK | changes).items()]
    return [str(data), str(out), "--model", str(model), "--recipe", "mini", *settings]


def test_a_run_learns_and_its_folder_answers(an_unbroken_run, a_model_folder):
    curve = losses(an_unbroken_run)
    assert sorted(curve) == list(range(1, STEPS + 1))
    assert curve[STEPS] < 0.8 * curve[1]
    engine = load_engine(an_unbroken_run / "model", Running("cpu"))
    assert engine.card.labels == {
        "ct": ["left kidney", "liver", "spleen"],
        "mr": ["edema"],
    }
    before = load_file(a_model_folder / "model.safetensors")
    moved = [
        name for name, value in weights(an_unbroken_run).items() if (value != before[name]).any()
    ]
    assert set(before) - set(moved) == {"model.vision_tower.attn_pool.pos_embed"}


def test_the_folder_of_a_run_tells_everything(an_unbroken_run, a_train_folder, a_model_folder):
    assert load_recipe(an_unbroken_run / "recipe.yaml") == load_recipe("mini", QUICK)
    facts = json.loads((an_unbroken_run / "training.json").read_text())
    assert facts["data"] == str(a_train_folder)
    assert facts["model"] == str(a_model_folder)
    events = EventAccumulator(str(an_unbroken_run / "tensorboard")).Reload()
    shown = {event.step: event.value for event in events.Scalars("train/loss")}
    assert shown == pytest.approx(losses(an_unbroken_run))
    kept = checkpoints(an_unbroken_run / "checkpoints")
    assert [step_of(c) for c in kept] == [6, 9]  # the last step wrote the model instead
    assert all(map(is_whole, kept))


def test_the_same_run_twice_gives_the_same_weights(tmp_path, run, an_unbroken_run):
    run(tmp_path / "again")
    assert_same_weights(an_unbroken_run, tmp_path / "again", within=0)


def test_accumulation_changes_nothing(tmp_path, run, an_unbroken_run):
    """Rows have different numbers of answers; the mean is over all of a step's tokens."""
    run(tmp_path / "one", micro_batch=1, steps=4)
    run(tmp_path / "four", micro_batch=4, steps=4)
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "four"), abs=1e-4)


def test_after_sigterm_a_run_goes_on_as_if_unbroken(tmp_path, run, an_unbroken_run):
    out = tmp_path / "run"

    def stop_early() -> None:
        wait_for(out / "checkpoints" / "checkpoint-3" / "complete.json")
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    watcher = threading.Thread(target=stop_early)
    watcher.start()
    outcome = run(out)
    watcher.join()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert outcome.folder is None
    assert not (out / "model").exists()
    stopped = step_of(last_whole(out / "checkpoints"))
    assert 3 <= stopped == outcome.steps < STEPS
    assert run(out, resume=True).folder == out / "model"
    assert_same_weights(an_unbroken_run, out, within=1e-5)
    assert losses(out) == pytest.approx(losses(an_unbroken_run), abs=1e-5)


def test_a_checkpoint_that_was_cut_off_is_not_used(tmp_path, run, an_unbroken_run):
    out = tmp_path / "run"
    run(out)
    for name in ("model", "finished.json"):
        (out / name).rename(tmp_path / name)
    last = out / "checkpoints" / "checkpoint-9" / "optimizer.pt"
    last.write_bytes(last.read_bytes()[:1000])
    run(out, resume=True)
    assert_same_weights(an_unbroken_run, out, within=1e-5)


def test_sigterm_to_all_processes_lets_the_step_end(tmp_path, run, a_train_folder, a_model_folder):
    """As a batch system sends it: the processes that read pictures get it too."""
    out = tmp_path / "run"
    arguments = command_line(a_train_folder, out, a_model_folder, workers=1, steps=400)
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for(out / "checkpoints" / "checkpoint-3" / "complete.json", process)
        os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    assert "go on with --resume" in said
    stopped = step_of(last_whole(out / "checkpoints"))
    assert f"stopped after step {stopped};" in said


@pytest.mark.slow
def test_after_kill_9_a_run_goes_on_as_if_unbroken(
    tmp_path, run, an_unbroken_run, a_train_folder, a_model_folder
):
    out = tmp_path / "run"
    arguments = command_line(a_train_folder, out, a_model_folder)
    with subprocess.Popen([sys.executable, "-c", COMMAND, *arguments]) as process:
        wait_for(out / "checkpoints" / "checkpoint-6", process)  # perhaps half of it
        process.kill()
    assert not (out / "model").exists()
    assert step_of(last_whole(out / "checkpoints")) >= 3
    run(out, resume=True)
    assert_same_weights(an_unbroken_run, out, within=1e-5)


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(
    tmp_path, an_unbroken_run, a_train_folder, a_model_folder
):
    arguments = command_line(a_train_folder, tmp_path / "run", a_model_folder, micro_batch=1)
    script = tmp_path / "medgrit_train.py"
    script.write_text(COMMAND)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == pytest.approx(losses(an_unbroken_run), abs=2e-3)
    assert done.stdout.split() == [str(tmp_path / "run" / "model")]  # the first process alone
    assert done.stderr.count(f"step {STEPS}/{STEPS}") == 1


def test_adapters_are_saved_and_merged(tmp_path, run, a_model_folder):
    out = tmp_path / "run"
    outcome = run(out, name="lora", steps=3, lora_rank=2)
    assert outcome.folder == out / "model"
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    plain = AutoModelForImageTextToText.from_pretrained(out / "model")
    start = AutoModelForImageTextToText.from_pretrained(a_model_folder)
    assert plain.state_dict().keys() == start.state_dict().keys()
    assert plain.dtype == torch.bfloat16
    pool = "model.vision_tower.attn_pool.query"
    assert not torch.equal(plain.state_dict()[pool].float(), start.state_dict()[pool])
    merged, adapted = (load_engine(out / name, Running("cpu")) for name in ("model", "adapter"))
    assert merged.card.labels["mr"] == adapted.card.labels["mr"] == ["edema"]
    picture = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    features = [engine.encode([picture]) for engine in (merged, adapted)]
    torch.testing.assert_close(*features, atol=0.05, rtol=0.05)  # merged in bfloat16


def test_adapters_alone_when_nothing_is_to_be_merged(tmp_path, run):
    out = tmp_path / "run"
    assert run(out, name="lora", steps=1, lora_rank=2, merge=False).folder == out / "adapter"
    assert not (out / "model").exists()


def test_adapters_go_on_after_a_stop(tmp_path, run):
    changes = {"name": "lora", "lora_rank": 2, "steps": 4, "save_every": 2}
    run(tmp_path / "unbroken", **changes)
    out = tmp_path / "run"
    run(out, **changes)
    (out / "finished.json").unlink()  # as a kill after the model leaves it
    (out / "adapter" / "left.txt").write_text("of the killed run")
    run(out, resume=True, **changes)
    assert not (out / "adapter" / "left.txt").exists()
    assert_same_weights(tmp_path / "unbroken", out, within=1e-5)


def test_what_is_frozen_stays_bit_for_bit(tmp_path, run, a_model_folder):
    frozen = {"frozen": ["model.vision_tower"], "trained": ["model.vision_tower.attn_pool"]}
    run(tmp_path / "run", steps=2, gradient_checkpointing=True, **frozen)
    before, after = load_file(a_model_folder / "model.safetensors"), weights(tmp_path / "run")
    tower = [n for n in before if "vision_tower" in n and "attn_pool" not in n]
    assert len(tower) > 10
    assert all(torch.equal(before[name], after[name]) for name in tower)
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named_in_one_line(tmp_path, a_model_folder, workers):
    train_folder = write_released(tmp_path / "data", pictures=1)
    (broken,) = (tmp_path / "data" / "images").iterdir()
    broken.write_bytes(broken.read_bytes()[:60])
    recipe = load_recipe("mini", QUICK | {"workers": workers})
    with pytest.raises(BirdError, match=rf"^\S+{broken.name}: [^\n]+$"):
        tune(train_folder, tmp_path / "run", str(a_model_folder), recipe)


def test_a_finished_run_is_never_overwritten(run, an_unbroken_run):
    for resume in (False, True):
        with pytest.raises(BirdError, match="holds a finished run"):
            run(an_unbroken_run, resume=resume)


def test_nothing_to_resume_is_said(tmp_path, run):
    with pytest.raises(BirdError, match="no whole checkpoint; start without --resume"):
        run(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_other_data_or_another_model_is_no_resumption(tmp_path):
    begun = Run(tmp_path)
    begun.facts.write_text(json.dumps({"data": "here", "model": "/a", "digest": "1"}))
    begun.check_facts({"data": "there", "model": "/a", "digest": "1"})
    for change, words in (({"digest": "2"}, "what is under there"), ({"model": "/b"}, "the model")):
        with pytest.raises(BirdError, match=f"resume: {words} is not that of the run"):
            begun.check_facts({"data": "there", "model": "/a", "digest": "1"} | change)


def test_a_folder_with_other_things_is_left_alone(tmp_path, run):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(BirdError, match="is not empty"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_of_predictions_is_left_alone(tmp_path, run):
    for name in (RUN_FILE, "VG.jsonl"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(BirdError, match="is not empty"):
        run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["VG.jsonl", RUN_FILE]


def test_sequences_longer_than_the_model_takes_are_refused(tmp_path, run):
    with pytest.raises(BirdError, match="tokens: 4096 are more than this model's 2048"):
        run(tmp_path / "run", tokens=4096)
    assert not (tmp_path / "run").exists()
