"""How bird-mini is made: in which stages, of which model, for how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from safetensors.torch import save_file

from bird_training.pretraining.answers import AnswerLoss
from bird_training.pretraining.dense import FINE, SeeingHeads, SeeingModel
from bird_training.pretraining.mini import (
    mini_model,
    mini_picture_size,
    mini_processor,
    save_mini,
)
from bird_training.pretraining.pictures import PictureDataset
from bird_training.pretraining.trainer import PretrainingModel, load_matching, read_tensors, train
from bird_training.records import PictureRecord
from bird_training.regions import Vocabulary
from bird_vlm.errors import BirdError
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.outputs import write_json
from bird_vlm.processing_bird import BirdProcessor

_DONE = "done.safetensors"


@dataclass(frozen=True)
class Stage:
    """One part of the training."""

    name: str
    share: float  # of the minutes or steps
    learning_rate: float
    turns: int  # questions per picture; 0 = the vision tower alone
    blind: bool = False  # the vision tower stays as it is


# Seeing first, and for longest, then speaking, at first with the tower as it is. A step of the
# tower alone costs a third of a whole one, and the decoder learns nothing from a blind tower.
STAGES = (
    Stage("see", 0.5, 1.5e-3, turns=0),
    Stage("speak", 0.3, 1e-3, turns=5, blind=True),
    Stage("both", 0.2, 1e-3, turns=5),
)


def stages_called(names: Sequence[str]) -> tuple[Stage, ...]:
    """Those of `STAGES`, in their order. Raises BirdError for a name that none has."""
    known = [stage.name for stage in STAGES]
    if unknown := [name for name in names if name not in known]:
        raise BirdError(f"stages: {unknown[0]!r} is none of {','.join(known)}")
    return tuple(stage for stage in STAGES if stage.name in names)


def train_mini(
    records: Sequence[PictureRecord],
    out: Path,
    *,
    minutes: float | None = None,
    steps: int = 12_000,
    batch: int = 24,
    start: Path | None = None,
    stages: Sequence[Stage] = STAGES,
    resume: bool = False,
) -> Path:
    """Train bird-mini on `records`; returns the model's folder, `out`/bird-mini.

    `start` is a checkpoint or model folder to begin with. `stages` divide minutes and steps by
    their shares. `resume` goes on where the last training in `out` stopped. Raises BirdError.
    """
    _claim(out, records, batch, resume)
    vocabulary = Vocabulary(records)
    processor = _processor_of(start) or mini_processor(records, vocabulary)
    bird = mini_model(processor.tokenizer)
    model = _learner(bird, processor, vocabulary, start)
    grid = FINE * bird.config.vision_config.grid_size
    dataset = PictureDataset(records, vocabulary, processor, grid=grid)
    whole = sum(stage.share for stage in stages)
    for stage in stages:
        share = stage.share / whole
        limits = {
            "steps": max(1, round(share * steps)),
            "minutes": share * minutes if minutes is not None else None,
            "batch": batch,
        }
        _run_stage(stage, model, dataset, out / "checkpoints" / stage.name, limits)
    save_mini(bird, processor, vocabulary, out / "bird-mini")
    return out / "bird-mini"


def _learner(
    bird: BirdForConditionalGeneration,
    processor: BirdProcessor,
    vocabulary: Vocabulary,
    start: Path | None,
) -> PretrainingModel:
    heads = SeeingHeads(bird.config.vision_config, len(vocabulary.labels))
    model = PretrainingModel(bird, heads, AnswerLoss(processor.tokenizer))
    if start is not None:
        load_matching(model, read_tensors(start / "model.safetensors"))
    return model


def _run_stage(
    stage: Stage, model: PretrainingModel, dataset: PictureDataset, folder: Path, limits: dict
) -> None:
    """Train one stage, from its last checkpoint where there is one, and keep what it made.

    A stage that is done is read again instead.
    """
    done, unfinished = folder / _DONE, folder / f".{_DONE}"
    if done.is_file():
        load_matching(model, read_tensors(done))
        return
    dataset.turns = stage.turns
    tower = model.bird.model.vision_tower.requires_grad_(not stage.blind)
    learner = model if stage.turns else SeeingModel(tower, model.heads)
    train(learner, dataset, folder, learning_rate=stage.learning_rate, **limits)
    save_file(model.state_dict(), unfinished)
    unfinished.rename(done)


def _claim(out: Path, records: Sequence[PictureRecord], batch: int, resume: bool) -> None:
    """Take `out` for this run, or refuse a folder that holds another one."""
    facts = {
        "batch": batch,
        "pictures": len(records),
        "digest": sha256("\n".join(sorted(r.id for r in records)).encode()).hexdigest(),
    }
    path = out / "pretraining.json"
    if (out / "bird-mini").exists() and not resume:
        raise BirdError(f"out: {out} holds a finished model; name another folder")
    if not path.is_file():
        if (out / "checkpoints").exists():
            raise BirdError(f"out: {out} holds checkpoints of another run; name another folder")
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, facts)
    elif not resume:
        raise BirdError(
            f"out: {out} holds an unfinished run; go on with --resume, or name another folder"
        )
    elif json.loads(path.read_text(encoding="utf-8")) != facts:
        raise BirdError(
            f"resume: the run in {out} has other pictures or another batch; give the same again"
        )


def _processor_of(start: Path | None) -> BirdProcessor | None:
    """The processor of a model folder to start from; its words have their own token ids."""
    if start is None or not (start / "processor_config.json").is_file():
        return None
    processor = BirdProcessor.from_pretrained(start)
    processor.image_processor.size = mini_picture_size()
    return processor
