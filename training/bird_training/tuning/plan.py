"""Will it fit, how long will it take: a training's memory, time and disk before it starts.

Knows nothing about reading data or running a training.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from rich.table import Table
from transformers import PreTrainedConfig

from bird_training.tuning.adapters import DTYPES
from bird_training.tuning.devices import GIB, Device
from bird_training.tuning.recipe import Recipe
from bird_training.tuning.simulation import Simulation, Sizes, simulate
from bird_vlm.errors import BirdError

MFU = 0.4  # share of a device's arithmetic that a training of this kind gets
_RESERVED = 1.5 * GIB  # libraries and fragments on an accelerator

Spread = Literal["copies", "shards"]  # of the model over devices: DDP or FSDP


@dataclass(frozen=True)
class DataSize:
    """What there is to train on."""

    sequences: int  # packed
    pictures: float  # per sequence
    picture_tokens: int = 256  # of one, on average


@dataclass(frozen=True)
class DiskUse:
    """Bytes that a run writes."""

    checkpoint: int  # each
    result: int  # the finished model, and adapters
    most: int  # at once: the kept checkpoints, one under way, the result


@dataclass(frozen=True)
class Plan:
    """Bytes on each device, seconds in all, bytes on the disk."""

    simulation: Simulation
    steps: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float  # gathered shards, or the buckets that gradients travel in
    seconds: float
    flops: float
    disk: DiskUse

    @property
    def per_device(self) -> float:
        parts = (self.weights, self.gradients, self.optimizer, self.activations, self.buffers)
        return sum(parts) + _RESERVED


def make_plan(
    config: PreTrainedConfig,
    recipe: Recipe,
    data: DataSize,
    devices: int,
    device: Device,
    *,
    spread: Spread = "copies",
    mfu: float = MFU,
) -> Plan:
    """The plan of a training on `devices` of a kind, the model copied to or sharded over them."""
    sharded = is_sharded(spread, devices)
    step = simulate(config, recipe, sharded=sharded, picture_tokens=data.picture_tokens)
    return plan_from(step, recipe, data, devices, device, spread=spread, mfu=mfu)


def is_sharded(spread: Spread, devices: int) -> bool:
    """Whether a device has a part of the model only: the simulation of a step depends on it."""
    return spread == "shards" and devices > 1


def plan_from(
    step: Simulation,
    recipe: Recipe,
    data: DataSize,
    devices: int,
    device: Device,
    *,
    spread: Spread = "copies",
    mfu: float = MFU,
) -> Plan:
    """As `make_plan`, from a step that was simulated before."""
    sharded = is_sharded(spread, devices)
    sizes = step.sizes
    split = devices if sharded else 1
    compute = DTYPES[recipe.compute].itemsize
    gathered = compute * (2 * sizes.root + 4 * sizes.unit)  # weights and gradients of two blocks
    buckets = sizes.trained_bytes if devices > 1 else 0
    steps = recipe.steps_for(data.sequences)
    flops = steps * recipe.batch * step.flops(data.pictures)
    return Plan(
        simulation=step,
        steps=steps,
        weights=sizes.weight_bytes / split,
        gradients=sizes.trained_bytes / split,
        optimizer=2 * sizes.trained_bytes / split,
        activations=step.activations(recipe.micro_batch, data.pictures),
        buffers=gathered if sharded else buckets,
        seconds=flops / (devices * device.tflops * 1e12 * mfu),
        flops=flops,
        disk=disk_use(sizes, recipe),
    )


def disk_use(sizes: Sizes, recipe: Recipe) -> DiskUse:
    """What a run of this recipe writes, TensorBoard's few megabytes aside."""
    beside = sum(sizes.by_part.get(part, 0) for part in ("adapters", "trained copies"))
    plain = sizes.parameters - beside
    result = plain * DTYPES[recipe.saved].itemsize
    checkpoint = sizes.weight_bytes + 2 * sizes.trained_bytes
    if recipe.method == "lora":
        checkpoint = 3 * sizes.trained_bytes
        result = sizes.trained_bytes + (result if recipe.merge else 0)
    return DiskUse(checkpoint, result, (recipe.keep + 1) * checkpoint + result)


def check_disk(use: DiskUse, out: Path) -> None:
    """Raises BirdError where the disk of `out` has not enough room for the whole run."""
    place = next(folder for folder in (out, *out.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if use.most > free:
        raise BirdError(
            f"out: {_gib(free)} are free at {place}, but this run may need {_gib(use.most)} "
            f"(checkpoints of {_gib(use.checkpoint)}, a model of {_gib(use.result)}); "
            "choose another disk, or keep fewer with --set keep=2"
        )


def plan_table(plan: Plan, devices: int, device: Device, spread: Spread) -> Table:
    """The plan for a person."""
    sizes = plan.simulation.sizes
    over = "sharded over" if is_sharded(spread, devices) else "on each of"
    table = Table(title=f"training {over} {devices} x {device.name}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("parameters", f"{sizes.parameters:,}")
    table.add_row("of them trained", f"{sizes.trained:,}")
    for name in ("weights", "gradients", "optimizer", "activations", "buffers"):
        table.add_row(name, _gib(getattr(plan, name)))
    fits = "fits" if plan.per_device <= device.memory_gib * GIB else "does NOT fit"
    table.add_row(
        "memory of a device", f"{_gib(plan.per_device)}, {fits} {device.memory_gib:.0f} GiB"
    )
    table.add_row("arithmetic", f"{plan.flops:.2e} operations")
    table.add_row("time", f"{timedelta(seconds=round(plan.seconds))} for {plan.steps} steps")
    table.add_row("a checkpoint", _gib(plan.disk.checkpoint))
    table.add_row("disk at most", _gib(plan.disk.most))
    return table


def _gib(count: float) -> str:
    return f"{count / GIB:.2f} GiB"
