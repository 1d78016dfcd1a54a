"""Fine-tuning: a model folder and conversations in, a model folder out.

transformers' Trainer does the loop, precision, processes and checkpoints; here are its settings,
where a run is kept, and how it goes on after a kill. A run's folder:

    recipe.yaml     every setting      checkpoints/   to go on from
    training.json   data and model     tensorboard/   curves
    model/          the result, once the run is finished (adapter/ too, with LoRA)

Knows nothing about tasks, boxes or tokens.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.utils.tensorboard import SummaryWriter
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback

from bird_training.tuning.adapters import prepare_model
from bird_training.tuning.checkpoints import remove_unfinished, step_of
from bird_training.tuning.data import load_data
from bird_training.tuning.packs import PackDataset
from bird_training.tuning.plan import check_disk, disk_use
from bird_training.tuning.recipe import Recipe, save_recipe
from bird_training.tuning.runs import Run
from bird_training.tuning.simulation import sizes_of
from bird_training.tuning.starting import load_start, save_result
from bird_training.tuning.watching import (
    PatientTrainer,
    SealCheckpoints,
    ShowProgress,
    SkipLastCheckpoint,
    StopOnSignal,
)
from bird_vlm.console import console
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    steps: int
    loss: float  # mean over the steps of this call
    seconds: float
    folder: Path | None  # of the finished model; None where a signal stopped the training


def tune(
    data: Path,
    out: Path,
    model: str,
    recipe: Recipe,
    *,
    images: Path | None = None,
    resume: bool = False,
) -> Outcome:
    """Fine-tune `model`, a folder or a shipped name, on the conversations under `data`.

    Called by every process of a distributed run. Raises BirdError where data, model, recipe or
    `out` will not do; nothing is written before all of them are checked.
    """
    arguments = training_arguments(recipe, out)
    checkpoint = on_main(lambda: Run(out).check(resume))
    start = load_start(model, recipe)
    material = load_data(data, images, start.reader, recipe)
    console.print(material.summary(), highlight=False)
    facts = {"data": str(data.resolve()), "model": str(start.folder), "digest": material.digest}
    set_seed(recipe.seed)  # adapters begin with random numbers
    learner = prepare_model(start.network, recipe)
    on_main(lambda: check_disk(disk_use(sizes_of(learner), recipe), out))
    on_main(lambda: _begin(Run(out), recipe, facts, resume))
    signals = StopOnSignal()
    trainer = _trainer(learner, arguments, material.dataset, signals)
    _draw_curves(trainer, out / "tensorboard", checkpoint)
    began = time.monotonic()
    try:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except BirdError as error:
        raise _in_one_line(error) from error
    seconds = time.monotonic() - began
    folder = None if signals.stopped else save_result(trainer, start, material.labels, recipe, out)
    return Outcome(result.global_step, result.training_loss, seconds, folder)


def _trainer(
    learner: torch.nn.Module,
    arguments: TrainingArguments,
    dataset: PackDataset,
    signals: StopOnSignal,
) -> Trainer:
    trainer = PatientTrainer(
        model=learner,
        args=arguments,
        train_dataset=dataset,
        data_collator=dataset.collate,
        callbacks=[SkipLastCheckpoint(), signals, SealCheckpoints(), ShowProgress()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _draw_curves(trainer: Trainer, folder: Path, checkpoint: Path | None) -> None:
    """Curves of a run that goes on replace what was drawn after its checkpoint."""
    if PartialState().is_main_process:
        purge = step_of(checkpoint) + 1 if checkpoint else None
        trainer.add_callback(TensorBoardCallback(SummaryWriter(folder, purge_step=purge)))


def _in_one_line(error: BirdError) -> BirdError:
    """What a process that reads pictures met, without its traceback."""
    return BirdError(str(error).strip().splitlines()[-1].rpartition("Error: ")[2])


def training_arguments(recipe: Recipe, out: Path) -> TrainingArguments:
    """The Trainer's settings for this machine and number of processes. Raises BirdError."""
    cuda = torch.cuda.is_available()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 and torch.cuda.device_count() > 1:
        raise BirdError(
            f"{torch.cuda.device_count()} GPUs are visible to one process; start it with "
            "`torchrun --nproc_per_node N -m bird_training.cli train ...`, "
            "or show it one with CUDA_VISIBLE_DEVICES=0"
        )
    return TrainingArguments(
        output_dir=str(out / "checkpoints"),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.steps or -1,
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.accumulation(processes),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warm_up,
        weight_decay=recipe.weight_decay,
        adam_beta2=recipe.adam_beta2,
        max_grad_norm=recipe.max_grad_norm,
        optim="adamw_torch",
        bf16=recipe.compute == "bfloat16",
        activation_checkpointing=recipe.gradient_checkpointing and not _is_fsdp(),
        use_cpu=not cuda,
        ddp_backend="gloo" if processes > 1 and not cuda else None,
        ddp_find_unused_parameters=False,
        save_steps=recipe.save_every,
        save_total_limit=recipe.keep,
        logging_steps=recipe.log_every,
        logging_first_step=True,
        use_cache=True,  # only what the finished model's configuration says
        report_to="none",
        disable_tqdm=True,
        seed=recipe.seed,
        data_seed=recipe.seed,
        dataloader_num_workers=recipe.workers,
        dataloader_persistent_workers=recipe.workers > 0,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
    )


def on_main(act):
    """Do something in one process; the others get its result, or leave quietly on its error."""
    state, shared = PartialState(), [None, None]
    if state.is_main_process:
        try:
            shared[0] = act()
        except BirdError as error:
            shared[1] = error
    if state.num_processes > 1:
        broadcast_object_list(shared)
    if shared[1] is not None:
        raise shared[1]
    return shared[0]


def _begin(run: Run, recipe: Recipe, facts: dict[str, str], resume: bool) -> None:
    run.check_facts(facts) if resume else run.clear()
    for checkpoint in remove_unfinished(run.checkpoints):
        console.print(f"{checkpoint.name} was cut off; removed", highlight=False)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.facts, facts)
    save_recipe(recipe, run.recipe, **facts)


def _is_fsdp() -> bool:
    """Whether accelerate shards the model; it then does the checkpointing of activations too."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")
