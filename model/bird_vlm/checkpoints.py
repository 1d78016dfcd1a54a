"""Checkpoint folders: original Qwen-VL-Chat or Paddle BiRD to ours and back, bit for bit.

The spelling of names and configurations is `layouts.py`'s, files are `weight_files.py`'s. Tensors
are streamed from memory-mapped files into shards, so a conversion needs a few gigabytes of memory,
not the model's size. A folder appears under its name only when it is complete.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig

from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import CheckpointError
from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.layouts import (
    LAYOUTS,
    Source,
    config_from_original,
    config_to_original,
    join,
    layout_of,
    source_of,
)
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.processing_bird import BirdProcessor
from bird_vlm.tokenization_bird import (
    TIKTOKEN_FILE,
    BirdTokenizer,
    tokenizer_from_tiktoken,
    write_tiktoken,
)
from bird_vlm.weight_files import (
    Progress,
    StoredTensor,
    open_weights,
    read_json,
    write_json,
    write_shards,
)


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote."""

    folder: Path
    layout: str  # of the other side: qwen or paddle
    tensors: int  # written
    notes: tuple[str, ...] = ()  # what was left out, and what to do about it


def convert(src: str | Path, dst: str | Path, progress: Progress | None = None) -> Conversion:
    """Convert an original checkpoint folder into one that the Auto classes load.

    Args:
        src: a folder with the flat `config.json` (`model_type: qwen`) and weights as
            `.safetensors`, `.bin` (read without executing pickled code) or `.npz`; with
            `qwen.tiktoken` if the processor is wanted too. `.npz` arrays of uint16 are taken as
            bfloat16, which is how Paddle hands them to numpy.
        dst: a folder that does not exist yet or is empty.
        progress: called with (tensors written, tensors in all).

    Raises:
        CheckpointError: names every missing, unknown or mis-shaped tensor, or the bad file.
    """
    src, dst = Path(src), Path(dst).resolve()
    config = config_from_original(_read_config(src))
    stored = open_weights(src)
    layout = layout_of(set(stored))
    shapes = tensor_shapes(config)
    sources = {name: source_of(name, len(shape), layout) for name, shape in shapes.items()}
    wanted = {source.name: source.shape(shapes[name]) for name, source in sources.items()}
    _check_tensors(wanted, stored, src)
    with _finished_folder(dst) as folder:
        config.architectures = [BirdForConditionalGeneration.__name__]
        config.save_pretrained(folder)
        notes = _write_processor(src, folder, config)
        tensors = (
            (name, source.take(stored[source.name].read())) for name, source in sources.items()
        )
        write_shards(folder, tensors, len(sources), progress)
    return Conversion(dst, layout, len(sources), notes)


def convert_back(
    src: str | Path, dst: str | Path, layout: str = "qwen", progress: Progress | None = None
) -> Conversion:
    """Convert one of our folders into the original layout, every tensor bit-equal.

    Args:
        src: a folder that `convert` or `save_pretrained` wrote.
        dst: a folder that does not exist yet or is empty.
        layout: `qwen` or `paddle`.
        progress: called with (tensors written, tensors in all).

    Raises:
        CheckpointError: as `convert`; also where the original has no such model (a conv stem).
    """
    src, dst = Path(src), Path(dst).resolve()
    if layout not in LAYOUTS:
        raise CheckpointError(f"layout: must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if _read_config(src).get("model_type") != BirdConfig.model_type:
        raise CheckpointError(f"{src}: is not a BiRD folder; only those convert back")
    config = BirdConfig.from_pretrained(src)
    flat = config_to_original(config)
    stored = open_weights(src)
    shapes = tensor_shapes(config)
    _check_tensors(shapes, stored, src)
    groups = _groups(shapes, layout)
    with _finished_folder(dst) as folder:
        write_json(folder / "config.json", flat)
        notes = _write_tiktoken(src, folder)
        tensors = (
            (name, join({source: stored[ours].read() for source, ours in group.items()}))
            for name, group in groups.items()
        )
        write_shards(folder, tensors, len(groups), progress)
    return Conversion(dst, layout, len(groups), notes)


def tensor_shapes(config: BirdConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all stored tensors of a model; needs no memory for them."""
    with torch.device("meta"):
        model = BirdForConditionalGeneration(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _check_tensors(
    wanted: dict[str, tuple[int, ...]], stored: dict[str, StoredTensor], folder: Path
) -> None:
    missing = sorted(wanted.keys() - stored.keys())
    extra = sorted(stored.keys() - wanted.keys())
    shapes = [
        f"{name} is {list(stored[name].shape)} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in stored and stored[name].shape != tuple(shape)
    ]
    faults = [
        f"{kind}: {', '.join(names)}"
        for kind, names in (("missing", missing), ("unknown", extra), ("mis-shaped", shapes))
        if names
    ]
    if faults:
        raise CheckpointError(f"{folder}: tensors do not fit config.json; {'; '.join(faults)}")


def _groups(shapes: dict[str, tuple[int, ...]], layout: str) -> dict[str, dict[Source, str]]:
    """For every tensor of `layout`: which of our tensors lie in it, and where."""
    groups: dict[str, dict[Source, str]] = {}
    for name, shape in shapes.items():
        source = source_of(name, len(shape), layout)
        groups.setdefault(source.name, {})[source] = name
    return groups


def _write_processor(src: Path, folder: Path, config: BirdConfig) -> tuple[str, ...]:
    ranks = src / TIKTOKEN_FILE
    if not ranks.is_file():
        return (f"no processor written: {src} has no {TIKTOKEN_FILE}",)
    tokenizer = tokenizer_from_tiktoken(ranks)
    if tokenizer.convert_tokens_to_ids("<imgpad>") != config.image_token_id:
        raise CheckpointError(f"{ranks}: its <imgpad> is not config.json's image_start_id + 2")
    size = config.vision_config.image_size
    image_processor = BirdImageProcessor(size={"height": size, "width": size})
    processor = BirdProcessor(image_processor, tokenizer, config.vision_config.num_queries)
    processor.save_pretrained(folder)
    _generation_config(src, tokenizer).save_pretrained(folder)
    return ()


def _generation_config(src: Path, tokenizer: BirdTokenizer) -> GenerationConfig:
    """Greedy, as BiRD is evaluated; an answer ends where its chat turn ends."""
    path = src / "generation_config.json"
    original = read_json(path) if path.is_file() else {}
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=original.get("max_new_tokens", 512),
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )


def _write_tiktoken(src: Path, folder: Path) -> tuple[str, ...]:
    if not (src / "tokenizer.json").is_file():
        return (f"no {TIKTOKEN_FILE} written: {src} has no tokenizer.json",)
    tokenizer = BirdTokenizer.from_pretrained(src)
    write_tiktoken(tokenizer, folder / TIKTOKEN_FILE)
    write_json(
        folder / "tokenizer_config.json",
        {"model_max_length": 8192, "tokenizer_class": "QWenTokenizer"},
    )
    end = tokenizer.pad_token_id
    write_json(
        folder / "generation_config.json",
        {
            "chat_format": "chatml",
            "do_sample": False,
            "eos_token_id": end,
            "max_new_tokens": 512,
            "max_window_size": 6144,
            "pad_token_id": end,
        },
    )
    return ()


@contextlib.contextmanager
def _finished_folder(dst: Path) -> Iterator[Path]:
    """A folder to write into that takes the name `dst` only if nothing went wrong."""
    if dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise CheckpointError(f"{dst}: is not an empty folder; give another one or remove it")
    partial = dst.parent / f".{dst.name}.partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        yield partial
        if dst.exists():
            dst.rmdir()
        partial.rename(dst)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_config(folder: Path) -> dict:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: holds no config.json; give a checkpoint folder")
    return read_json(path)
