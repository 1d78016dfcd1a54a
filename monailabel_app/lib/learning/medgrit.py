"""The two commands of `medgrit` that a training consists of, and how far each has come.

`medgrit predict` answers the held-out questions, `medgrit train` makes the new weights: each in a
process of its own, so that nothing of it stays in the server's memory. Knows nothing about
reviews or versions.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bird_server.learning.tasks import Task
from bird_vlm.errors import BadRequestError
from lib.learning.commands import CommandFailedError, run

_MEDGRIT = ("bird_training.cli",)
_STEP = re.compile(r"step (\d+)/(\d+)")
SMALL_MODEL_BYTES = 1 << 30
# The shipped recipe `lora` is for models of billions of weights on a GPU. A small one learns on any
# machine, at a higher rate, without half precision, and reads pictures in the one process.
SMALL = (
    *("weights=float32", "compute=float32", "saved=float16", "gradient_checkpointing=false"),
    *("lora_rank=16", "lora_alpha=32", "lora_dropout=0", "weight_decay=0", "adam_beta2=0.98"),
    *("tokens=1088", "warm_up=0.1", "workers=0", "log_every=1", "save_every=100000"),
)
_SMALL_BATCH, _SMALL_RATE = 4, 3e-4


@dataclass(frozen=True)
class Effort:
    """How much is learnt; None = as the recipe says."""

    epochs: float = 4.0
    steps: int | None = None  # in place of epochs
    learning_rate: float | None = None


@dataclass(frozen=True)
class Runner:
    """Runs the commands of one task, on the device that the server's model uses."""

    task: Task
    until: float  # on `time.monotonic()`'s clock
    device: str  # as the model's card tells it

    def check(self) -> None:
        """Raises BadRequestError where the model's weights are not here to be trained."""
        visible_devices(self.device, None)

    def train(self, model: Path, data: Path, out: Path, effort: Effort, small: bool) -> Path:
        """Low-rank adapters on the questions of `data`, merged; the new model's folder.

        Raises CommandFailedError, TaskStoppedError.
        """
        command = [*_MEDGRIT, "train", str(data), str(out), "--model", str(model)]

        def on_line(line: str) -> None:
            self.task.note(line)
            if found := _STEP.search(line):
                self.task.at("training", int(found[1]), int(found[2]))

        self.task.at("training", 0, effort.steps or 1)
        self._run([*command, "--recipe", "lora", *_options(effort, small)], on_line)
        folder = out / "model"
        if not folder.is_dir():
            raise CommandFailedError("medgrit train wrote no model; see the task's details")
        return folder

    def predict(self, model: Path, data: Path, out: Path, questions: int, phase: str) -> None:
        """Answers every question of `data` into `out`.

        Raises CommandFailedError, TaskStoppedError.
        """
        command = [*_MEDGRIT, "predict", "--data", str(data), "--out", str(out)]
        answered = out / "VG.jsonl"

        def on_tick() -> None:
            self.task.at(phase, _lines(answered), questions)

        self._run([*command, "--model", str(model)], self.task.note, on_tick)
        self.task.at(phase, questions, questions)

    def _run(
        self,
        command: Sequence[str],
        on_line: Callable[[str], None],
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        visible = visible_devices(self.device, os.environ.get("CUDA_VISIBLE_DEVICES"))
        environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        leashed = [sys.executable, "-m", "bird_server.learning.leashed", str(os.getpid())]
        run([*leashed, *command], self.task, self.until, on_line, on_tick, environment)


def visible_devices(device: str, visible: str | None) -> str | None:
    """What CUDA_VISIBLE_DEVICES must be for a command to use the first of a server's devices.

    `visible` is what it is for the server; None leaves it as it is. Raises BadRequestError where
    the model runs elsewhere, so that its weights are not here to be trained.

    >>> visible_devices("cpu", None), visible_devices("cuda:1,cuda:2", "4,5,6")
    ('', '5')
    """
    kind, _, number = device.split(",")[0].partition(":")
    if kind == "cpu":
        return ""
    if kind == "mps":
        return None
    if kind != "cuda":
        raise BadRequestError(
            f"model: runs elsewhere ({device}), so its weights cannot be trained here; start the "
            "server with --model FOLDER"
        )
    place = int(number or 0)
    return visible.split(",")[place] if visible else str(place)


def is_small(folder: Path) -> bool:
    """Whether a model's weights are few enough for the settings of small models."""
    weights = [*folder.rglob("*.safetensors"), *folder.rglob("*.bin")]
    return sum(path.stat().st_size for path in weights) < SMALL_MODEL_BYTES


def _options(effort: Effort, small: bool) -> Sequence[str]:
    options = ["--epochs", str(effort.epochs)]
    if effort.steps is not None:
        options += ["--steps", str(effort.steps)]
    rate = effort.learning_rate or (_SMALL_RATE if small else None)
    if rate is not None:
        options += ["--learning-rate", str(rate)]
    if small:
        options += ["--batch", str(_SMALL_BATCH), "--micro-batch", str(_SMALL_BATCH)]
        options += [word for setting in SMALL for word in ("--set", setting)]
    return options


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0
