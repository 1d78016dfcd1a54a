"""Training: pictures and questions in, a model folder out.

transformers' `Trainer` does the loop, mixed precision, checkpoints and resuming; here are the
model with its helpers, the balance between sources and the time limit.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import WeightedRandomSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState

from bird_training.pretraining.answers import AnswerLoss, answered, first_answered
from bird_training.pretraining.dense import DenseTargets, SeeingHeads, box_distance
from bird_training.pretraining.pictures import PictureDataset
from bird_training.pretraining.pointing import Pointing
from bird_training.records import PictureRecord
from bird_vlm.errors import BirdError
from bird_vlm.modeling_bird import BirdForConditionalGeneration

_PICTURES_PER_CASE = 300  # beyond which more pictures of a case give its source no larger share
_WARM_UP = 0.03  # share of the training in which the learning rate rises
_FLOOR = 0.02  # last learning rate as a share of the highest


class PretrainingModel(nn.Module):
    """BiRD with helpers that make a small model learn fast; the loss is the sum of all.

    Dense heads on the vision grid and on the image tokens; a head that reads the box off the
    decoder's state before its first number, one layer before the last, so that the last can write
    it; attention that is drawn towards the object (`pointing.py`); and more weight on an answer's
    first token, which decides whether an object is there.
    """

    def __init__(
        self, bird: BirdForConditionalGeneration, heads: SeeingHeads, answer_loss: AnswerLoss
    ) -> None:
        super().__init__()
        self.bird, self.heads, self.answer_loss = bird, heads, answer_loss
        self.box = nn.Linear(bird.config.text_config.hidden_size, 4)
        self.pointing = Pointing(bird)

    def forward(
        self,
        pixel_values: torch.Tensor,
        cover: torch.Tensor,
        boxes: torch.Tensor,
        known: torch.Tensor,
        answer_boxes: torch.Tensor,
        before_boxes: torch.Tensor,
        answer_hulls: torch.Tensor,
        before_answers: torch.Tensor,
        labels: torch.Tensor,
        **text: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """One step on a batch of `PictureDataset.collate`."""
        tower = self.bird.model.vision_tower
        grid = tower.encode_grid(pixel_values.contiguous(memory_format=torch.channels_last))
        tokens = tower.pool_grid(grid)
        with self.pointing.listening():
            said = self.bird.model(image_embeds=tokens, output_hidden_states=True, **text)
        with torch.autocast(grid.device.type, enabled=False):
            state = said.hidden_states[-2][before_boxes].float()
            read = box_distance(self.box(state).sigmoid(), answer_boxes).sum()
            read = read / max(len(answer_boxes), 1)
        pointed = self.pointing.loss(text["input_ids"], before_boxes, answer_boxes)
        pointed = pointed + self.pointing.loss(text["input_ids"], before_answers, answer_hulls)
        parts = self._written(said.last_hidden_state, text["input_ids"], labels, answer_boxes)
        parts |= {"box": read, "pointing": pointed}
        if grid.requires_grad:  # a frozen tower needs no teaching
            parts |= self.heads.losses(grid, tokens, DenseTargets(cover, boxes, known))
        return {"loss": sum(parts.values()), **{k: v.detach() for k, v in parts.items()}}

    def _written(
        self,
        states: torch.Tensor,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        answer_boxes: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses of the answers and of their first tokens."""
        told, first = answered(labels), first_answered(labels)
        logits = self.bird.lm_head(states[:, :-1][told]).float()
        wanted = labels[:, 1:][told]
        before = input_ids[:, :-1][told]
        return {
            **self.answer_loss(logits, wanted, before, answer_boxes),
            "first": F.cross_entropy(logits[first[told]], wanted[first[told]]),
        }


class BalancedTrainer(Trainer):
    """Draws pictures evenly over sources and follows a cosine over steps or minutes."""

    def __init__(self, *, records: Sequence[PictureRecord], **kwargs) -> None:
        super().__init__(**kwargs)
        self.weights = source_weights(records)
        self.parts: dict[str, float] = {}

    def _get_train_sampler(self, *_: object) -> WeightedRandomSampler:
        return WeightedRandomSampler(self.weights, len(self.weights))

    def create_scheduler(self, num_training_steps: int, optimizer=None) -> LambdaLR:
        def share_done(step: int) -> float:
            clocks = [c for c in self.callback_handler.callbacks if isinstance(c, TimeLimit)]
            return max(step / num_training_steps, *(clock.share_used() for clock in clocks), 0)

        optimizer = self.optimizer if optimizer is None else optimizer
        self.lr_scheduler = LambdaLR(optimizer, lambda step: cosine(share_done(step)))
        return self.lr_scheduler

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        outputs = model(**inputs)
        for part in outputs.keys() - {"loss"}:
            self.parts[part] = 0.98 * self.parts.get(part, 4.0) + 0.02 * float(outputs[part])
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        rounded = {name: round(value, 4) for name, value in self.parts.items()}
        super().log({**logs, **rounded}, *args, **kwargs)


class TimeLimit(TrainerCallback, ExportableState):
    """Ends the training, with a last checkpoint, when its minutes are used up.

    Checkpoints hold the minutes used so far, so that a resumed training has only the rest.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.used_before = 0.0  # minutes of the training that this one goes on with
        self.started = time.monotonic()

    def share_used(self) -> float:
        """0..1, and beyond when the time is up."""
        return self._used() / self.minutes

    def on_step_end(self, args, state, control, **_):
        if self.share_used() >= 1:
            control.should_training_stop = control.should_save = True
        return control

    def state(self) -> dict[str, dict[str, float]]:
        """What transformers writes into a checkpoint and restores this callback from."""
        return {"args": {"minutes": self.minutes}, "attributes": {"used_before": self._used()}}

    def _used(self) -> float:
        return self.used_before + (time.monotonic() - self.started) / 60


def train(
    model: nn.Module,
    dataset: PictureDataset,
    out: Path,
    *,
    steps: int,
    minutes: float | None = None,
    batch: int = 24,
    learning_rate: float = 1e-3,
    workers: int = 1,
    save_every: int = 400,
) -> None:
    """Train a `SeeingModel` or `PretrainingModel` in place; checkpoints go to `out`.

    Stops after `steps` optimiser steps or, where given, after `minutes`, whichever is first; the
    learning rate falls to its floor by then. Goes on from the last checkpoint in `out`, where there
    is one.
    """
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=learning_rate,
        weight_decay=0.05,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        save_steps=save_every,
        save_total_limit=2,
        logging_steps=50,
        report_to="tensorboard",
        restore_callback_states_from_checkpoint=True,
        ignore_data_skip=True,  # every draw is random, a resumed training needs no replay
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        remove_unused_columns=False,
        disable_tqdm=False,
    )
    trainer = BalancedTrainer(
        records=dataset.records,
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=dataset.collate,
        callbacks=[TimeLimit(minutes)] if minutes is not None else [],
    )
    trainer.train(resume_from_checkpoint=any(out.glob("checkpoint-*")))


def load_matching(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load the tensors that the model has in the same shape; leave the others as they are.

    `state` is a training checkpoint's or a model folder's. Raises BirdError where nothing fits.
    """
    own = model.state_dict()
    named = state | {f"bird.{name}": value for name, value in state.items()}
    fitting = {k: v for k, v in named.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise BirdError("start: none of its tensors fits bird-mini; name another checkpoint")
    model.load_state_dict(fitting, strict=False)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BirdError(f"start: {path} cannot be read ({error})") from error


def source_weights(records: Sequence[PictureRecord]) -> list[float]:
    """Chance of each picture: a source counts by the root of its pictures and of its objects."""
    pictures = Counter(record.dataset for record in records)
    cases: dict[str, set[str]] = {}
    labels: dict[str, set[str]] = {}
    for record in records:
        cases.setdefault(record.dataset, set()).add(record.case)
        labels.setdefault(record.dataset, set()).update(o.label for o in record.objects)
    share = {
        name: math.sqrt(
            min(count, _PICTURES_PER_CASE * len(cases[name])) * max(len(labels[name]), 1)
        )
        / count
        for name, count in pictures.items()
    }
    return [share[record.dataset] for record in records]


def cosine(done: float) -> float:
    """Share of the highest learning rate when `done` (0..1) of the training is over."""
    if done < _WARM_UP:
        return max(done, 1e-3) / _WARM_UP
    return _FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
