"""How bird-mini is made: in which stages, of which model, for how long."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from safetensors.torch import save_file

from bird_training.pretraining.answers import AnswerLoss
from bird_training.pretraining.dense import FINE, SeeingHeads, SeeingModel
from bird_training.pretraining.mini import IMAGE_SIZE, mini_model, mini_processor, save_mini
from bird_training.pretraining.pictures import PictureDataset
from bird_training.pretraining.trainer import PretrainingModel, load_matching, read_tensors, train
from bird_training.records import PictureRecord
from bird_training.regions import Vocabulary
from bird_vlm.errors import BirdError
from bird_vlm.modeling_bird import BirdForConditionalGeneration, BirdVisionTransformer
from bird_vlm.outputs import write_json
from bird_vlm.processing_bird import BirdProcessor

_DONE = "done.safetensors"


@dataclass(frozen=True)
class Stage:
    """One part of the training."""

    name: str
    size: int  # side of the pictures, pixels
    share: float  # of the minutes or steps
    learning_rate: float
    turns: int  # questions per picture; 0 = the vision tower alone
    blind: bool = False  # the vision tower stays as it is


# Seeing first, on small pictures, then on full ones; then speaking, at first with the tower as it
# is. A step of the tower alone costs a third of a whole one, and the decoder learns nothing from a
# tower that is blind.
STAGES = (
    Stage("see-small", 160, 0.12, 1.5e-3, turns=0),
    Stage("see", IMAGE_SIZE, 0.2, 1e-3, turns=0),
    Stage("speak", IMAGE_SIZE, 0.18, 1e-3, turns=5, blind=True),
    Stage("both", IMAGE_SIZE, 0.5, 1e-3, turns=5),
)


def train_mini(
    records: Sequence[PictureRecord],
    out: Path,
    *,
    minutes: float | None = None,
    steps: int = 12_000,
    batch: int = 24,
    start: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train bird-mini from scratch on `records`; returns the model's folder, `out`/bird-mini.

    `start` is a checkpoint or model folder to begin with; its vision tower is taken to see already.
    `resume` goes on where the last training in `out` stopped.
    """
    _claim(out, records, batch, resume)
    vocabulary = Vocabulary(records)
    processor = _processor_of(start) or mini_processor(records, vocabulary)
    bird = mini_model(processor.tokenizer)
    model = _learner(bird, processor, vocabulary, start)
    grid = FINE * bird.config.vision_config.grid_size
    stages = STAGES if start is None else STAGES[-1:]
    whole = sum(stage.share for stage in stages)

    @lru_cache(maxsize=1)  # pictures fill the memory: those of one size at a time
    def pictures(size: int) -> PictureDataset:
        return PictureDataset(records, vocabulary, processor, grid=grid, size=size)

    for stage in stages:
        share = stage.share / whole
        limits = {
            "steps": max(1, round(share * steps)),
            "minutes": share * minutes if minutes is not None else None,
            "batch": batch,
        }
        _run_stage(stage, model, pictures, out / "checkpoints" / stage.name, limits)
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
    stage: Stage,
    model: PretrainingModel,
    pictures: Callable[[int], PictureDataset],
    folder: Path,
    limits: dict,
) -> None:
    """Train one stage, from its last checkpoint where there is one, and keep what it made.

    A stage that is done is read again instead.
    """
    done, unfinished = folder / _DONE, folder / f".{_DONE}"
    if done.is_file():
        load_matching(model, read_tensors(done))
        return
    dataset = pictures(stage.size)
    dataset.turns = stage.turns
    tower = model.bird.model.vision_tower.requires_grad_(not stage.blind)
    with _pictures_of(tower, stage.size):
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


@contextmanager
def _pictures_of(tower: BirdVisionTransformer, size: int) -> Iterator[None]:
    """Lets the tower read pictures of another size for a while."""
    full, tower.config.image_size = tower.config.image_size, size
    try:
        yield
    finally:
        tower.config.image_size = full


def _processor_of(start: Path | None) -> BirdProcessor | None:
    """The processor of a model folder to start from; its words have their own token ids."""
    if start is None or not (start / "processor_config.json").is_file():
        return None
    return BirdProcessor.from_pretrained(start)
