"""Networks and processors out of model folders, through transformers.

Knows nothing about pictures or questions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.utils import is_bitsandbytes_available
from transformers.utils.logging import disable_progress_bar

import bird_vlm.configuration_bird  # noqa: F401  tells transformers of BiRD
from bird_vlm.catalogue.names import model_config
from bird_vlm.errors import BirdError, CheckpointError
from bird_vlm.running import Running

ProcessorReader = Callable[[Path], ProcessorMixin]

_DEVICES = ("cpu", "cuda")
_KEPT_WHOLE = ("lm_head", "attn_pool")
_PACKED_IN, _PACKED_OUT = 64, 32  # features of a block of 4-bit weights on a processor

_BROKEN = (  # what libraries raise for files that are missing, cut off or do not fit each other
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError),
    *(SafetensorError, StrictDataclassError),
)


def device_of(running: Running) -> torch.device:
    """Raises CheckpointError where this machine has no such device."""
    name = running.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _no_device(name) from error
    if device.type not in _DEVICES:
        raise _no_device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(
            f"device: this machine has {torch.cuda.device_count()} CUDA devices, got {name!r}; "
            "use cpu"
        )
    return device


def _no_device(name: str) -> CheckpointError:
    return CheckpointError(f"device: must be cpu, cuda or cuda:N, got {name!r}")


def _usual_processor(folder: Path) -> ProcessorMixin:
    return AutoProcessor.from_pretrained(folder, local_files_only=True)


def load_network(
    folder: Path, running: Running, read_processor: ProcessorReader = _usual_processor
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The network on its device, and its processor.

    Raises CheckpointError for a folder that holds no whole model, or where quantisation is asked
    for and not installed; and what `read_processor` raises for people to read.
    """
    device = device_of(running)
    disable_progress_bar()
    try:
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=_dtype(running, device),
            device_map={"": device} if running.quantize else None,  # needs accelerate
            quantization_config=_quantisation(folder, running, device),
            output_loading_info=True,
            local_files_only=True,
        )
        network = network if running.quantize else network.to(device)
        processor = read_processor(folder)
    except BirdError:
        raise
    except _BROKEN as error:
        raise CheckpointError(f"model: {folder} cannot be loaded: {_reason(error)}") from error
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
    if lacking:
        raise CheckpointError(f"model: {folder} lacks weights: {', '.join(map(str, lacking[:5]))}")
    return network, processor


def _reason(error: Exception) -> str:
    """The first line, with the second where the first announces it; of a key, that it lacks."""
    if isinstance(error, KeyError):
        return f"an entry {error} is missing in one of its files"
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def _dtype(running: Running, device: torch.device) -> torch.dtype:
    if running.precision != "auto":
        return getattr(torch, running.precision)
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _quantisation(
    folder: Path, running: Running, device: torch.device
) -> BitsAndBytesConfig | None:
    """Of all linear layers but those whose numbers are answers or feed all others."""
    if running.quantize is None:
        return None
    if not is_bitsandbytes_available():
        raise CheckpointError(
            f"quantize: {running.quantize} needs bitsandbytes; pip install 'bird-slicer[quantize]'"
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every product's cast
    on_processor = running.quantize == "int4" and device.type == "cpu"
    return BitsAndBytesConfig(
        load_in_8bit=running.quantize == "int8",
        load_in_4bit=running.quantize == "int4",
        llm_int8_skip_modules=[*_KEPT_WHOLE, *(_unpackable(folder) if on_processor else ())],
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=_dtype(running, device),
    )


def _unpackable(folder: Path) -> list[str]:
    """Layers that bitsandbytes cannot compute in 4 bits on a processor, for their shapes."""
    settings = model_config(folder)
    config = AutoConfig.for_model(**settings)
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(config)
    return [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Linear)
        and (layer.in_features % _PACKED_IN or layer.out_features % _PACKED_OUT)
    ]
