"""Tensors and JSON on disk: any checkpoint folder opened lazily, shards written one at a time.

Knows nothing about models or what the names mean. Pickled code is never run.
"""

import json
import pickle
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bird_vlm.errors import CheckpointError

SHARD_BYTES = 2 * 1024**3
Progress = Callable[[int, int], None]  # (tensors written, tensors in all)
_READ_ERRORS = (
    OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError,
    zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still on disk."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor] = field(repr=False)


def open_weights(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint folder, by the names they have there, still on disk.

    Raises:
        CheckpointError: no weights, a shard is absent or unreadable, or a name comes twice.
    """
    stored: dict[str, StoredTensor] = {}
    for path in _weight_files(folder):
        try:
            found = _OPENERS[path.suffix](path)
        except _READ_ERRORS as error:
            raise CheckpointError(
                f"{path}: cannot be read ({_first_line(error)}); fetch the file again"
            ) from error
        if twice := sorted(stored.keys() & found.keys()):
            raise CheckpointError(f"{path}: holds tensors of another file too: {', '.join(twice)}")
        stored.update(found)
    return stored


def _weight_files(folder: Path) -> list[Path]:
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / name).is_file():
            return _indexed_files(folder / name)
    for suffix in _OPENERS:
        if paths := sorted(p for p in folder.glob(f"*{suffix}") if p.name != "training_args.bin"):
            return paths
    pickled = next(folder.glob("*.pdparams"), None)
    hint = (
        f"{pickled.name} is a pickle, which is not read; save its arrays with numpy.savez first"
        if pickled
        else "needs .safetensors, .bin or .npz files"
    )
    raise CheckpointError(f"{folder}: holds no weights; {hint}")


def _indexed_files(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index}: has no weight_map; fetch the file again")
    paths = [index.parent / Path(name).name for name in sorted(set(weight_map.values()))]
    if absent := [path.name for path in paths if not path.is_file()]:
        raise CheckpointError(f"{index.parent}: lacks the shards {', '.join(absent)}")
    return paths


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    file = safe_open(path, framework="pt")
    return {
        name: StoredTensor(
            tuple(file.get_slice(name).get_shape()), lambda name=name: file.get_tensor(name)
        )
        for name in file.keys()  # noqa: SIM118
    }


def _open_torch(path: Path) -> dict[str, StoredTensor]:
    lazy = zipfile.is_zipfile(path)  # the format before torch 1.6 cannot be memory-mapped
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=lazy)
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise ValueError("not a plain dictionary of tensors")
    return {
        name: StoredTensor(tuple(tensor.shape), lambda tensor=tensor: tensor)
        for name, tensor in state.items()
    }


def _open_numpy(path: Path) -> dict[str, StoredTensor]:
    arrays = np.load(path, allow_pickle=False)
    return {
        name: StoredTensor(arrays[name].shape, lambda name=name: _from_numpy(arrays[name]))
        for name in arrays.files
    }


def _from_numpy(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if array.dtype == np.uint16 else tensor


_OPENERS = {".safetensors": _open_safetensors, ".bin": _open_torch, ".npz": _open_numpy}


def write_shards(
    folder: Path,
    tensors: Iterable[tuple[str, torch.Tensor]],
    total: int,
    progress: Progress | None,
) -> None:
    """Write tensors into safetensors files of about SHARD_BYTES, with an index if several."""
    shards: list[list[str]] = []
    shard: dict[str, torch.Tensor] = {}
    size = written = 0

    def flush() -> None:
        save_file(shard, folder / f"shard-{len(shards)}", metadata={"format": "pt"})
        shards.append(list(shard))
        shard.clear()

    for done, (name, tensor) in enumerate(tensors, start=1):
        if shard and size + tensor.nbytes > SHARD_BYTES:
            flush()
            size = 0
        shard[name] = tensor
        size += tensor.nbytes
        written += tensor.nbytes
        if progress is not None:
            progress(done, total)
    flush()
    _name_shards(folder, shards, written)


def _name_shards(folder: Path, shards: list[list[str]], total_size: int) -> None:
    if len(shards) == 1:
        (folder / "shard-0").rename(folder / "model.safetensors")
        return
    weight_map = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        (folder / f"shard-{number}").rename(folder / file)
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


def read_json(path: Path) -> dict:
    """The JSON object in a file.

    Raises:
        CheckpointError: not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON ({_first_line(error)})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must hold a JSON object, got {type(value).__name__}")
    return value


def write_json(path: Path, value: dict) -> None:
    """Write a JSON object, readable."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
