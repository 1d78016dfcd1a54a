"""What accelerators can do: dense bfloat16 arithmetic and memory, from their data sheets.

A machine without one is measured with a matrix product. Knows nothing about models.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

from bird_vlm.errors import BirdError

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One accelerator."""

    name: str
    tflops: float  # 1e12 dense bfloat16 operations a second at best
    memory_gib: float


DEVICES = {
    device.name: device
    for device in (
        Device("V100-32G", 125, 32),  # float16; it has no bfloat16
        Device("A100-40G", 312, 40),
        Device("A100-80G", 312, 80),
        Device("L40S", 362, 48),
        Device("RTX-4090", 165, 24),
        Device("H100", 989, 80),
        Device("H200", 989, 141),
        Device("B200", 2250, 180),
        Device("MI250X", 383, 128),
        Device("MI300X", 1307, 192),
    )
}
_ALIASES = {"A100": "A100-80G", "V100": "V100-32G", "4090": "RTX-4090"}


def parse_devices(text: str) -> tuple[int, Device]:
    """`8xH100` or `H100` -> how many of what. Raises BirdError for an unknown device.

    >>> parse_devices("4xA100-40G")
    (4, Device(name='A100-40G', tflops=312, memory_gib=40))
    """
    found = re.fullmatch(r"(?:(\d+)\s*x\s*)?([\w-]+)", text.strip(), re.IGNORECASE)
    count, name = (found[1] or "1", found[2].upper()) if found else ("0", text)
    device = DEVICES.get(_ALIASES.get(name, name))
    if device is None or int(count) < 1:
        raise BirdError(f"devices: write 8xH100 with one of {', '.join(DEVICES)}, got {text!r}")
    return int(count), device


def this_machine() -> tuple[int, Device]:
    """The accelerators of this machine, or its processor."""
    import torch

    if not torch.cuda.is_available():
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        return 1, Device("CPU", _measured_tflops(), memory)
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / GIB
    words = properties.name.upper()
    alike = [
        d for d in DEVICES.values() if d.name.partition("-")[0].replace("RTX", "4090") in words
    ]
    known = min(alike, key=lambda d: abs(d.memory_gib - memory), default=None)
    tflops = known.tflops if known else _measured_tflops("cuda")
    return torch.cuda.device_count(), Device(properties.name, tflops, memory)


def _measured_tflops(kind: str = "cpu") -> float:
    """Of a matrix product that takes about a tenth of a second."""
    import torch

    size, dtype = (1024, torch.float32) if kind == "cpu" else (8192, torch.bfloat16)
    matrix = torch.ones(size, size, device=kind, dtype=dtype)
    (matrix @ matrix).sum().item()
    began, rounds = time.perf_counter(), 4
    for _ in range(rounds):
        product = matrix @ matrix
    product.sum().item()
    return rounds * 2 * size**3 / (time.perf_counter() - began) / 1e12
