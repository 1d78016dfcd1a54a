"""Networks and processors out of model folders, through transformers.

Knows nothing about pictures or questions.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.utils import is_bitsandbytes_available
from transformers.utils.logging import disable_progress_bar

import bird_vlm.configuration_bird  # noqa: F401  tells transformers of BiRD
from bird_vlm.errors import CheckpointError
from bird_vlm.running import Running


def device_of(running: Running) -> torch.device:
    """Raises CheckpointError where this machine has no such device."""
    name = running.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(f"device: must be cpu or cuda, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(
            f"device: this machine has {torch.cuda.device_count()} CUDA devices, got {name!r}; "
            "use cpu"
        )
    return device


def load_network(folder: Path, running: Running) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The network on its device, and its processor.

    Raises CheckpointError for a folder that holds no whole BiRD model, or where quantisation is
    asked for and not installed.
    """
    device = device_of(running)
    disable_progress_bar()
    try:
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=_dtype(running, device),
            device_map={"": device},
            quantization_config=_quantisation(running, _dtype(running, device)),
            output_loading_info=True,
            local_files_only=True,
        )
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"model: {folder} cannot be loaded: {reason}") from error
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
    if lacking:
        raise CheckpointError(f"model: {folder} lacks weights: {', '.join(map(str, lacking[:5]))}")
    return network, processor


def _dtype(running: Running, device: torch.device) -> torch.dtype:
    if running.precision != "auto":
        return getattr(torch, running.precision)
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _quantisation(running: Running, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Of all linear layers but those whose numbers are answers or feed all others."""
    if running.quantize is None:
        return None
    if not is_bitsandbytes_available():
        raise CheckpointError(
            f"quantize: {running.quantize} needs bitsandbytes; pip install 'bird-slicer[quantize]'"
        )
    return BitsAndBytesConfig(
        load_in_8bit=running.quantize == "int8",
        load_in_4bit=running.quantize == "int4",
        llm_int8_skip_modules=["lm_head", "attn_pool"],
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )
