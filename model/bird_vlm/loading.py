"""Model folders: which there are, what they say of themselves, and the network in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.utils.logging import disable_progress_bar

from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import CheckpointError

DEFAULT_MODEL = "bird-mini"
WEIGHTS = Path(__file__).parent / "weights"
LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class ModelCard:
    """What a model says of itself."""

    id: str
    labels: dict[str, list[str]] = field(default_factory=dict)  # by modality; {} = any words
    device: str = "cpu"

    @property
    def known_labels(self) -> set[str]:
        return {label for labels in self.labels.values() for label in labels}


def model_folder(model: str | Path) -> Path:
    """The folder of a shipped model's name, or the given folder itself."""
    shipped = WEIGHTS / str(model)
    if str(model) in shipped_models():
        return shipped
    folder = Path(model)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"model: {str(model)!r} is neither a folder with a config.json nor one of the shipped "
            f"models ({', '.join(shipped_models()) or 'none'})"
        )
    return folder


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def load_network(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, ProcessorMixin]:
    config = _read_json(folder / "config.json")
    if config.get("model_type") != BirdConfig.model_type:
        raise CheckpointError(
            f"model: {folder} holds a {config.get('model_type')!r} model; turn an original "
            f"Qwen-VL-Chat or BiRD checkpoint into ours with `bird convert {folder} DST`"
        )
    disable_progress_bar()
    try:
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, local_files_only=True
        )
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"model: {folder} cannot be loaded: {reason}") from error
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
    if lacking:
        raise CheckpointError(f"model: {folder} lacks weights: {', '.join(map(str, lacking[:5]))}")
    return network, processor


def read_labels(folder: Path) -> dict[str, list[str]]:
    path = folder / LABELS_FILE
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must hold a JSON object, got a {type(value).__name__}")
    return value
