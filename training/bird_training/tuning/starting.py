"""The model that a training starts from, and the folder that it ends in.

Knows nothing about the training between them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer
from transformers.utils.logging import disable_progress_bar

from bird_training.tuning.adapters import DTYPES, merge_folder
from bird_training.tuning.recipe import Recipe
from bird_training.tuning.runs import Run
from bird_vlm.catalogue.names import model_path
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import CheckpointError
from bird_vlm.model_card import LABELS_FILE
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.outputs import write_json
from bird_vlm.processing_bird import BirdProcessor

_SHARD = "4GB"


@dataclass(frozen=True)
class Start:
    """A model folder, loaded."""

    folder: Path
    network: BirdForConditionalGeneration
    processor: BirdProcessor


def load_start(model: str | Path, dtype: torch.dtype) -> Start:
    """Load a shipped model by name or a folder. Raises CheckpointError."""
    folder = model_path(model).resolve()
    config = read_config(folder)
    disable_progress_bar()
    try:
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder, config=config, dtype=dtype, output_loading_info=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _unloadable(folder, error) from error
    processor = read_processor(folder)
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
    if lacking:
        raise CheckpointError(f"model: {folder} lacks weights: {', '.join(map(str, lacking[:5]))}")
    return Start(folder, network, processor)


def read_config(folder: Path) -> BirdConfig:
    """The configuration of a model folder. Raises CheckpointError where it is none of ours."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"model: {folder / 'config.json'} cannot be read ({error})"
        ) from error
    if kind != BirdConfig.model_type:
        raise CheckpointError(
            f"model: {folder} holds a {kind!r} model; turn an original Qwen-VL-Chat or BiRD "
            f"checkpoint into ours with `bird convert {folder} DST`"
        )
    return BirdConfig.from_pretrained(folder)


def read_processor(folder: Path) -> BirdProcessor:
    """The processor of a model folder. Raises CheckpointError where it lacks or is broken."""
    try:
        return AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise _unloadable(folder, error) from error


def _unloadable(folder: Path, error: Exception) -> CheckpointError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CheckpointError(f"model: {folder} cannot be loaded: {reason}")


def save_result(
    trainer: Trainer, start: Start, labels: Mapping[str, list[str]], recipe: Recipe, out: Path
) -> Path:
    """Write the trained model; returns its folder (the adapter's, where none is merged).

    Every process takes part in gathering the weights, the first one writes. A folder appears under
    its name when it is complete.
    """
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    learner = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    run = Run(out)
    if PartialState().is_main_process:
        if recipe.method == "lora":
            _write(run.adapter, lambda folder: learner.save_pretrained(folder, state_dict=state))
        if recipe.method == "full" or recipe.merge:
            network = learner if recipe.method == "full" else _merged(start, run.adapter, recipe)
            state = state if recipe.method == "full" else network.state_dict()
            _write(run.model, lambda f: _save_model(f, network, state, start, labels, recipe))
        history = trainer.state.log_history
        write_json(run.finished, {"steps": trainer.state.global_step, "log": history})
    PartialState().wait_for_everyone()
    return run.adapter if recipe.method == "lora" and not recipe.merge else run.model


def _merged(start: Start, adapter: Path, recipe: Recipe) -> BirdForConditionalGeneration:
    """The start's weights read again, so that no adapter clings to them, and the adapters added."""
    return merge_folder(load_start(start.folder, DTYPES[recipe.weights]).network, adapter)


def _save_model(
    folder: Path,
    network: BirdForConditionalGeneration,
    state: Mapping[str, torch.Tensor],
    start: Start,
    labels: Mapping[str, list[str]],
    recipe: Recipe,
) -> None:
    dtype = DTYPES[recipe.saved]
    network.config.dtype = dtype
    network.save_pretrained(
        folder,
        state_dict={name: value.to(dtype).contiguous() for name, value in state.items()},
        max_shard_size=_SHARD,
    )
    start.processor.save_pretrained(folder)
    known = start.folder / LABELS_FILE
    if known.is_file():
        write_json(folder / LABELS_FILE, _joined(json.loads(known.read_text("utf-8")), labels))


def _joined(
    first: Mapping[str, list[str]], second: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    names = sorted({*first, *second})
    return {name: sorted({*first.get(name, ()), *second.get(name, ())}) for name in names}


def _write(folder: Path, save) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    save(unfinished)
    if folder.exists():  # of a run that was killed before it was finished
        shutil.rmtree(folder)
    unfinished.rename(folder)
