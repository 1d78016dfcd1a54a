"""Will it fit: the memory that a model needs to answer, and the memory that is free here.

Knows numbers of parameters and devices; knows nothing about cards, files or the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import psutil

from bird_vlm.errors import CheckpointError

Precision = Literal["float32", "bf16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # widest first
GIB = 2**30

_BYTES: dict[Precision, float] = {"float32": 4, "bf16": 2, "int8": 1, "int4": 0.5}
_NOT_QUANTIZED = 0.15  # embeddings, output layer and norms, which quantizers leave in bf16
_SHARE_FOR_ANSWERS = 0.1
_FOR_LIBRARIES = 1 * GIB
_LOADED_AS: dict[str, tuple[Precision, ...]] = {
    "cpu": ("float32",),  # without an accelerator the engine computes in float32
    "cuda": ("bf16", "int8", "int4"),
}


@dataclass(frozen=True)
class Room:
    """Free memory of one device."""

    device: str  # cpu, cuda or cuda:N
    name: str  # for people
    free: int  # bytes

    @property
    def kind(self) -> str:
        return self.device.partition(":")[0]


def memory_need(parameters: int, precision: Precision) -> float:
    """Bytes to answer questions about a few slices at a time.

    Weights: parameters x 4 bytes in float32, 2 in bf16; in int8 and int4 85 % of them take 1 and
    0.5 bytes, the rest stay in bf16. Allowance for activations and the answers' cache: a tenth of
    the weights before quantization, and 1 GiB for libraries and fragments. An estimate, not a
    measurement: batches of many slices take more, and a picture fed at its own size, too.

    >>> round(memory_need(9_656_935_168, "bf16") / GIB, 1)
    20.8
    """
    computed = parameters * _BYTES["float32" if precision == "float32" else "bf16"]
    weights = computed
    if precision in ("int8", "int4"):
        weights = _NOT_QUANTIZED * computed
        weights += (1 - _NOT_QUANTIZED) * parameters * _BYTES[precision]
    return weights + _SHARE_FOR_ANSWERS * computed + _FOR_LIBRARIES


def widest_fit(parameters: int, room: Room) -> Precision | None:
    """The most exact way in which the model fits in the room; None where it does not.

    On a processor that is float32, which is what the engine uses there.
    """
    ways = _LOADED_AS[room.kind]
    return next((way for way in ways if memory_need(parameters, way) <= room.free), None)


def free_memory(device: str | None = None) -> Room:
    """What is free on `device`: cpu, cuda or cuda:N; by default cuda where there is one.

    Raises CheckpointError for another device, and for cuda where there is none.
    """
    if device == "cpu":
        return _main_memory()
    import torch

    available = torch.cuda.is_available()
    if device is None:
        device = "cuda" if available else "cpu"
    kind, _, number = device.partition(":")
    if kind not in _LOADED_AS or (number and not (kind == "cuda" and number.isdecimal())):
        raise CheckpointError(f"device: must be cpu, cuda or cuda:N, got {device!r}")
    if kind == "cpu":
        return _main_memory()
    if not available or int(number or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"device: no such CUDA device, got {device!r}; use cpu")
    return Room(device, torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[0])


def _main_memory() -> Room:
    return Room("cpu", "main memory", psutil.virtual_memory().available)
