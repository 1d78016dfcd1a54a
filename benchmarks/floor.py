"""The least time that a question about a volume can take, and how near to it we are.

    python benchmarks/floor.py --slices 128 --measure
    python benchmarks/floor.py --config my-bird/config.json --slices 300 --tflops 989 --gbs 3350

Floating-point operations are counted by torch while the network runs on tensors without memory, so
that any size can be told on any machine. The floor of a phase is what the device needs for its
operations or for reading its weights, whichever is more. With `--measure` the same phases run here,
and the device's speed is that of a large matrix product and of a large copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from bird_vlm.catalogue.names import model_path
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.console import plain_errors
from bird_vlm.errors import BirdError
from bird_vlm.memory import read_pictures
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.outputs import write_json
from bird_vlm.packed import PackedDecoder

BEFORE, QUESTION = 24, 20  # tokens of the chat before the question, and of the question
CHOICES = 5  # that are decoded for a box: four numbers, and that no other follows
SIGNS = 3  # tokens that are fed with each choice


@dataclass(frozen=True)
class Device:
    """What it can do at most."""

    name: str
    tflops: float
    gbs: float  # of memory, read or written


@dataclass(frozen=True)
class Phase:
    """One part of a question."""

    name: str
    tflop: float
    gb: float  # weights read, once per batch
    floor_s: float
    measured_s: float | None = None

    @property
    def share(self) -> float | None:
        """Of the floor in what was measured, 0..1."""
        return self.floor_s / self.measured_s if self.measured_s else None


@dataclass(frozen=True)
class Asked:
    """The question."""

    slices: int
    labels: int
    present: float  # share of the slices that show each label
    batch: int  # slices at once

    @property
    def batches(self) -> float:
        return self.slices / self.batch


class Network:
    """A network on a device or, on "meta", without memory."""

    def __init__(self, config: BirdConfig, device: str, dtype: torch.dtype) -> None:
        with torch.device(device):
            self.bird = BirdForConditionalGeneration(config).to(dtype).eval().requires_grad_(False)
        self.config, self.device, self.dtype = config, torch.device(device), dtype
        vision = config.vision_config
        self.picture = (vision.in_channels, vision.image_size, vision.image_size)

    def run(self, asked: Asked, on_phase: Callable[[str], None]) -> None:
        """One batch; tells the name of each phase when it is over."""
        pictures = torch.zeros(asked.batch, *self.picture, device=self.device, dtype=self.dtype)
        features = self.bird.get_image_features(pictures)
        on_phase("encode")
        image = [self.config.image_token_id] * self.config.vision_config.num_queries
        memories = read_pictures(self.bird, features, [1] * BEFORE + image)
        decoder = PackedDecoder(self.bird, 0, memories)
        decoder.begin([[1] * QUESTION] * asked.labels)
        on_phase("read")
        rows = range(max(1, round(asked.present * asked.batch)))
        decoder.keep(rows)
        for _ in range(CHOICES):
            decoder.extend(
                {(row, label): [1] * SIGNS for row in rows for label in range(asked.labels)}
            )
        on_phase("write")

    def weights_gb(self) -> dict[str, float]:
        """Read in each phase of a batch."""
        every = {name: p.numel() * self.dtype.itemsize / 1e9 for name, p in self._parameters()}
        vision = sum(gb for name, gb in every.items() if "vision_tower" in name)
        text = sum(gb for name, gb in every.items() if "vision_tower" not in name)
        return {"encode": vision, "read": text, "write": CHOICES * text}

    def _parameters(self):
        named = self.bird.named_parameters()
        return [(name, p) for name, p in named if "embed_tokens" not in name]


def floors(config: BirdConfig, dtype: torch.dtype, asked: Asked, device: Device) -> list[Phase]:
    """Operations and bytes of each phase over all batches."""
    network = Network(config, "meta", dtype)
    counter = FlopCounterMode(display=False)
    counted: dict[str, float] = {}
    with counter, torch.inference_mode():
        network.run(asked, lambda name: counted.update({name: counter.get_total_flops()}))
    phases, before = [], 0.0
    for name, weights in network.weights_gb().items():
        tflop = (counted[name] - before) * asked.batches / 1e12
        before, gb = counted[name], weights * asked.batches
        phases.append(Phase(name, tflop, gb, max(tflop / device.tflops, gb / device.gbs)))
    return phases


def measured(config: BirdConfig, dtype: torch.dtype, asked: Asked, device: str) -> dict[str, float]:
    """Seconds of each phase over all batches, from the second of two batches."""
    network = Network(config, device, dtype)
    times: dict[str, float] = {}
    with torch.inference_mode():
        for _ in range(2):
            last = _now(device)

            def note(name: str) -> None:
                nonlocal last
                now = _now(device)
                times[name], last = (now - last) * asked.batches, now

            network.run(asked, note)
    return times


def this_device(device: str, dtype: torch.dtype) -> Device:
    """What it reaches on a large matrix product and a large copy."""
    side = 8192 if device == "cuda" else 2048
    left = torch.randn(side, side, device=device).to(dtype)
    bytes_ = left.nbytes
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} cores"
    tflops = 2 * side**3 / _best_s(lambda: left @ left, device) / 1e12
    return Device(name, tflops, 2 * bytes_ / _best_s(left.clone, device) / 1e9)


def _best_s(work: Callable[[], object], device: str) -> float:
    times = []
    for _ in range(5):
        started = _now(device)
        work()
        times.append(_now(device) - started)
    return min(times)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def print_table(phases: list[Phase], asked: Asked, device: Device) -> None:
    title = (
        f"{asked.slices} slices, {asked.labels} labels, {device.name}: "
        f"{device.tflops:.2f} TFLOP/s, {device.gbs:.0f} GB/s"
    )
    table = Table("phase", "TFLOP", "GB", "floor, s", "measured, s", "share", title=title)
    for phase in phases:
        seconds = f"{phase.measured_s:.3f}" if phase.measured_s else "-"
        share = f"{phase.share:.0%}" if phase.share else "-"
        sizes = (f"{phase.tflop:.4f}", f"{phase.gb:.2f}", f"{phase.floor_s:.3f}")
        table.add_row(phase.name, *sizes, seconds, share)
    Console().print(table)
    Console().print(f"floor of all: {sum(phase.floor_s for phase in phases):.3f} s")


@plain_errors
def main(
    config: Annotated[
        Path | None, typer.Option(help="A model's config.json; bird-mini's without it.")
    ] = None,
    slices: Annotated[int, typer.Option(min=1)] = 128,
    labels: Annotated[int, typer.Option(min=1)] = 1,
    present: Annotated[float, typer.Option(min=0, max=1, help="Share that shows a label.")] = 0.3,
    batch: Annotated[int, typer.Option(min=1, help="Slices at once.")] = 32,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    tflops: Annotated[float | None, typer.Option(help="Of the device, in this type.")] = None,
    gbs: Annotated[float | None, typer.Option(help="GB/s of the device's memory.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Run it here too.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the numbers here.")] = None,
) -> None:
    """The floor of a question about a volume, and the share of it that is reached."""
    if dtype not in ("float32", "bfloat16", "float16"):
        raise BirdError(f"dtype: must be float32, bfloat16 or float16, got {dtype!r}")
    if (tflops is None) != (gbs is None):
        raise BirdError("tflops: give --tflops and --gbs together, or neither")
    number = getattr(torch, dtype)
    wanted = BirdConfig.from_pretrained(config or model_path("bird-mini") / "config.json")
    asked = Asked(slices, labels, present, min(batch, slices))
    here = "cuda" if torch.cuda.is_available() else "cpu"
    device = Device("given", tflops, gbs) if tflops and gbs else this_device(here, number)
    phases = floors(wanted, number, asked, device)
    if measure:
        times = measured(wanted, number, asked, here)
        phases = [Phase(p.name, p.tflop, p.gb, p.floor_s, times[p.name]) for p in phases]
    print_table(phases, asked, device)
    if json:
        write_json(json, {"device": asdict(device), "phases": [asdict(p) for p in phases]})


if __name__ == "__main__":
    typer.run(main)
