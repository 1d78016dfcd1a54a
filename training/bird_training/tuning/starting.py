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
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    Trainer,
)
from transformers.utils.logging import disable_progress_bar

import bird_vlm.configuration_bird  # noqa: F401  tells transformers of BiRD
from bird_training.tuning.adapters import DTYPES, merge_folder
from bird_training.tuning.bird_reader import BirdReader
from bird_training.tuning.families import FAMILY_PARTS
from bird_training.tuning.qwen_reader import QwenReader
from bird_training.tuning.reader import Reader
from bird_training.tuning.recipe import Recipe
from bird_training.tuning.runs import Run
from bird_vlm.backbones.chat_dialect import find_dialect
from bird_vlm.backbones.chat_processor import read_processor
from bird_vlm.catalogue.cards import MODEL_TYPES
from bird_vlm.catalogue.names import model_path
from bird_vlm.dialects.json_boxes import JsonBoxes
from bird_vlm.errors import BirdError, CheckpointError
from bird_vlm.model_card import LABELS_FILE
from bird_vlm.outputs import write_json

if TYPE_CHECKING:
    from peft import PeftModel

_SHARD = "4GB"


@dataclass(frozen=True)
class Start:
    """A model folder, loaded."""

    folder: Path
    network: PreTrainedModel
    reader: Reader


def load_start(model: str | Path, recipe: Recipe) -> Start:
    """Load a model by name, folder or hub id. Raises BirdError."""
    folder = model_path(model).resolve()
    network = load_network(folder, DTYPES[recipe.weights])
    return Start(folder, network, read_reader(folder, network.config, recipe))


def load_network(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The network of a model folder, every weight of it there. Raises CheckpointError."""
    config = read_config(folder)
    disable_progress_bar()
    try:
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder, config=config, dtype=dtype, output_loading_info=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _unloadable(folder, error) from error
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
    if lacking:
        raise CheckpointError(f"model: {folder} lacks weights: {', '.join(map(str, lacking[:5]))}")
    return network


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a model folder. Raises CheckpointError for a family without training."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"model: {folder / 'config.json'} cannot be read ({error})"
        ) from error
    if kind not in FAMILY_PARTS:
        raise CheckpointError(
            f"model: {folder} holds a {kind!r} model; fine-tuned can be {', '.join(FAMILY_PARTS)}, "
            "and an original Qwen-VL-Chat or BiRD checkpoint after "
            f"`bird convert {folder} DST`"
        )
    return AutoConfig.from_pretrained(folder, local_files_only=True)


def read_reader(folder: Path, config: PreTrainedConfig, recipe: Recipe) -> Reader:
    """How the model of a folder reads. Raises BirdError where a part lacks or is broken."""
    family = MODEL_TYPES[config.model_type]
    try:
        if family == "bird":
            return _bird_reader(folder, config, recipe)
        processor = read_processor(folder, family)
    except BirdError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise _unloadable(folder, error) from error
    dialect, _ = find_dialect(folder, folder.name)
    if not isinstance(dialect, JsonBoxes):
        raise CheckpointError(
            f"model: {folder} is set to the dialect {dialect.name}, in which {family} models are "
            "not taught; take box_dialect out of its config.json"
        )
    return QwenReader(folder, processor, config, dialect, recipe.picture_tokens)


def _bird_reader(folder: Path, config: PreTrainedConfig, recipe: Recipe) -> BirdReader:
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    if recipe.picture_tokens is not None:
        raise BirdError(
            f"picture_tokens: this model reads every picture as {processor.num_image_tokens} "
            f"tokens, got {recipe.picture_tokens}; leave it out"
        )
    return BirdReader(processor, config.max_sequence)


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
            _write(run.adapter, lambda f: _save_adapter(f, learner, state, start, labels))
        if recipe.method == "full" or recipe.merge:
            network = learner if recipe.method == "full" else _merged(start, run.adapter, recipe)
            state = state if recipe.method == "full" else network.state_dict()
            _write(run.model, lambda f: _save_model(f, network, state, start, labels, recipe))
        history = trainer.state.log_history
        write_json(run.finished, {"steps": trainer.state.global_step, "log": history})
    PartialState().wait_for_everyone()
    return run.adapter if recipe.method == "lora" and not recipe.merge else run.model


def _merged(start: Start, adapter: Path, recipe: Recipe) -> PreTrainedModel:
    """The start's weights read again, so that no adapter clings to them, and the adapters added."""
    return merge_folder(load_network(start.folder, DTYPES[recipe.weights]), adapter)


def _save_adapter(
    folder: Path,
    learner: PeftModel,
    state: Mapping[str, torch.Tensor],
    start: Start,
    labels: Mapping[str, list[str]],
) -> None:
    """The adapters, and all that a model's folder has but its configuration and weights.

    They name the start's folder; from_pretrained reads both.
    """
    learner.save_pretrained(folder, state_dict=state)
    _save_companions(folder, start, labels)


def _save_model(
    folder: Path,
    network: PreTrainedModel,
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
    _save_companions(folder, start, labels)


def _save_companions(folder: Path, start: Start, labels: Mapping[str, list[str]]) -> None:
    start.reader.save(folder)
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
