"""`medgrit train`: fine-tune a model on Med-GRIT conversations."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bird_vlm.console import console
from bird_vlm.errors import BirdError

EPILOG = "medgrit train med-grit/train runs/bird --model qwen-vl-converted --recipe paper --plan"
_NEEDED = ("accelerate", "tensorboard", "yaml")
_SIGTERM = 143


def train(
    data: Annotated[
        Path, typer.Argument(help="Conversations: `medgrit build`'s OUT/train, or one JSON file.")
    ],
    out: Annotated[Path, typer.Argument(help="New folder: checkpoints, curves, then model/.")],
    model: Annotated[
        str,
        typer.Option(
            help="What to start from: bird-mini, a folder `bird convert` made, or a Qwen2.5-VL or "
            "Qwen3-VL model by folder or name (`bird models`)."
        ),
    ] = "bird-mini",
    recipe: Annotated[
        str | None,
        typer.Option(help="paper, lora, mini, or a YAML file; by default mini for bird-mini."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, where they are not beside DATA.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from OUT's last whole checkpoint.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only print memory, time and disk that it will take.")
    ] = False,
    devices: Annotated[
        str | None,
        typer.Option(help="With --plan: 8xH100, or 1xH100,4xH100,8xH100; by default this machine."),
    ] = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="With --plan: the model sharded over devices (FSDP).")
    ] = False,
    epochs: Annotated[float | None, typer.Option(help="Times through the data.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, in place of epochs.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences per step over all devices.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="At once on one device.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest one.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Of a packed sequence.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of packing, order and adapters.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other line of the recipe: save_every=20; repeat for more."),
    ] = None,
) -> None:
    """Fine-tune a model on conversations about pictures, as the paper does or with LoRA.

    Looks at everything before it starts, and prints what it will take with --plan. A run that was
    stopped or killed goes on with --resume and ends as if nothing had happened. On several GPUs:
    `torchrun --nproc_per_node 8 -m bird_training.cli train ...`; a model too large for one GPU:
    `accelerate launch --config_file fsdp.yaml -m bird_training.cli train ...` (fsdp.yaml, and
    zero3.yaml for DeepSpeed, are in bird_training/tuning/recipes).
    """
    console.quiet = os.environ.get("RANK", "0") != "0"
    _check_packages()
    changes = {
        "epochs": epochs,
        "steps": steps,
        "batch": batch,
        "micro_batch": micro_batch,
        "learning_rate": learning_rate,
        "tokens": tokens,
        "seed": seed,
    }
    chosen = _recipe(
        recipe or ("mini" if model == "bird-mini" else "paper"),
        {name: value for name, value in changes.items() if value is not None},
        settings or [],
        out if resume else None,
        given=recipe is not None,
    )
    if plan:
        _show_plan(data, model, chosen, images, devices, shard)
        return
    _train(data, out, model, chosen, images, resume)


def _check_packages() -> None:
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        raise BirdError(
            f"training needs more packages ({', '.join(lacking)}): pip install -e '.[training]'"
        )


def _recipe(
    name: str, changes: dict[str, Any], settings: list[str], run: Path | None, given: bool
) -> Any:
    """The recipe with all changes; of a run that goes on, the one that it was begun with."""
    from bird_training.tuning.recipe import check_same, load_recipe, parse_changes
    from bird_training.tuning.runs import Run

    changes = {**changes, **parse_changes(settings)}
    if run is None:
        return load_recipe(name, changes)
    Run(run).check(resume=True)
    recorded = load_recipe(Run(run).recipe)
    wanted = load_recipe(name if given else Run(run).recipe, changes)
    check_same(recorded, wanted)
    return wanted


def _show_plan(
    data: Path, model: str, recipe: Any, images: Path | None, devices: str | None, shard: bool
) -> None:
    from bird_training.tuning.data import load_data
    from bird_training.tuning.devices import parse_devices, this_machine
    from bird_training.tuning.plan import is_sharded, plan_from, plan_table
    from bird_training.tuning.simulation import simulate
    from bird_training.tuning.starting import read_config, read_reader
    from bird_vlm.catalogue.names import model_path

    places = [parse_devices(text) for text in devices.split(",")] if devices else [this_machine()]
    folder = model_path(model)
    config = read_config(folder)
    material = load_data(data, images, read_reader(folder, config, recipe), recipe)
    console.print(material.summary(), highlight=False)
    spread = "shards" if shard else "copies"
    steps = {
        sharded: simulate(
            config, recipe, sharded=sharded, picture_tokens=material.size.picture_tokens
        )
        for sharded in {is_sharded(spread, count) for count, _ in places}
    }
    for count, device in places:
        step = steps[is_sharded(spread, count)]
        made = plan_from(step, recipe, material.size, count, device, spread=spread)
        Console().print(plan_table(made, count, device, spread))


def _train(
    data: Path, out: Path, model: str, recipe: Any, images: Path | None, resume: bool
) -> None:
    from bird_training.tuning.tuning import tune

    outcome = tune(data, out, model, recipe, images=images, resume=resume)
    if outcome.folder is None:
        console.print(f"stopped after step {outcome.steps}; go on with --resume")
        raise SystemExit(_SIGTERM)
    if not console.quiet:
        print(outcome.folder)
