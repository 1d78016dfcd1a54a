"""What happens around a training's steps: checkpoints are sealed, signals obeyed, progress told.

transformers' Trainer and callbacks of it. Knows nothing about models or data.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from bird_training.tuning.checkpoints import seal
from bird_vlm.console import console


class SealCheckpoints(TrainerCallback):
    """Marks a checkpoint as whole when all processes have written their part of it."""

    def on_save(self, args, state, control, **_):
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        PartialState().wait_for_everyone()


class SkipLastCheckpoint(TrainerCallback):
    """No checkpoint after the last step: the finished model is written instead."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step >= state.max_steps:
            control.should_save = False
        return control


class StopOnSignal(TrainerCallback):
    """After SIGTERM the step under way is finished, a checkpoint saved, and the training ends.

    Processes agree on the step at which they stop. The handler that was there comes back at the
    end.
    """

    def __init__(self) -> None:
        self.asked = self.stopped = False
        self.before: Callable | int | None = None

    def on_train_begin(self, args, state, control, **_):
        self.before = signal.signal(signal.SIGTERM, self._ask)

    def on_step_end(self, args, state, control, **_):
        if self._anyone_asked(args.device) and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args, state, control, **_):
        signal.signal(signal.SIGTERM, self.before)

    def _ask(self, *_: object) -> None:
        self.asked = True

    def _anyone_asked(self, device: torch.device) -> bool:
        if PartialState().num_processes == 1:
            return self.asked
        return bool(reduce(torch.tensor(float(self.asked), device=device), "sum") > 0)


class PatientTrainer(Trainer):
    """A Trainer whose reading processes outlive a SIGTERM to all, as the step under way needs them.

    They end when the training closes them, or with it. The loss is the mean over all answer tokens
    of a step, however many rows and processes they are spread over, also for networks that declare
    that they would rather not be told (Qwen's; their loss function takes the number all the same).
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True

    def get_train_dataloader(self) -> DataLoader:
        loader = super().get_train_dataloader()
        inner = getattr(loader, "base_dataloader", loader)  # accelerate wraps what starts workers
        inner.worker_init_fn = partial(_ignoring_sigterm, inner.worker_init_fn)
        return loader


def _ignoring_sigterm(begin: Callable[[int], None] | None, worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if begin is not None:
        begin(worker)


class ShowProgress(TrainerCallback):
    """A bar with loss and remaining time on a terminal, a line per log entry elsewhere."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.said = "loss -"
        self.began = (0.0, 0)  # seconds, step

    def on_train_begin(self, args, state, control, **_):
        self.began = (time.monotonic(), state.global_step)
        if state.is_world_process_zero and console.is_terminal:
            columns = ("{task.description}", BarColumn(), "{task.completed}/{task.total}")
            left = TextColumn("{task.fields[left]} left")
            self.bar = Progress(*columns, TimeElapsedColumn(), left, console=console)
            self.task = self.bar.add_task(self.said, total=state.max_steps, left="?")
            self.bar.start()

    def on_step_end(self, args, state, control, **_):
        if self.bar is not None:
            done, left = state.global_step, self._left(state)
            self.bar.update(self.task, description=self.said, completed=done, left=left)

    def on_log(self, args, state, control, logs=None, **_):
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return
        self.said = f"loss {logs['loss']:.4f}"
        if self.bar is None:
            line = (
                f"step {state.global_step}/{state.max_steps}  {self.said}  "
                f"lr {logs['learning_rate']:.2e}  grad {logs.get('grad_norm', 0):.2f}  "
                f"{self._left(state)} left"
            )
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            sys.stderr.flush()

    def on_train_end(self, args, state, control, **_):
        if self.bar is not None:
            self.bar.stop()

    def _left(self, state) -> str:
        started, first = self.began
        done = max(state.global_step - first, 1)
        seconds = (time.monotonic() - started) / done * (state.max_steps - state.global_step)
        return str(timedelta(seconds=round(seconds)))
