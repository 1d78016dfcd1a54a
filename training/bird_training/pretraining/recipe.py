"""How bird-mini is made: in which stages, of which model, for how long."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

from bird_training.pretraining.dense import FINE, SeeingHeads, SeeingModel
from bird_training.pretraining.mini import IMAGE_SIZE, mini_model, mini_processor, save_mini
from bird_training.pretraining.pictures import PictureDataset
from bird_training.pretraining.trainer import PretrainingModel, load_matching, read_tensors, train
from bird_training.records import PictureRecord
from bird_training.regions import Vocabulary
from bird_vlm.errors import BirdError
from bird_vlm.modeling_bird import BirdVisionTransformer
from bird_vlm.processing_bird import BirdProcessor


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
    Stage("see-small", 160, 0.18, 1.5e-3, turns=0),
    Stage("see", IMAGE_SIZE, 0.22, 1e-3, turns=0),
    Stage("speak", IMAGE_SIZE, 0.2, 1e-3, turns=6, blind=True),
    Stage("both", IMAGE_SIZE, 0.4, 1e-3, turns=6),
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
    vocabulary = Vocabulary(records)
    processor = _processor_of(start) or mini_processor(records, vocabulary)
    bird = mini_model(processor.tokenizer)
    grid = FINE * bird.config.vision_config.grid_size
    heads = SeeingHeads(bird.config.vision_config, len(vocabulary.labels))
    model = PretrainingModel(bird, heads)
    if start is not None:
        load_matching(model, read_tensors(start / "model.safetensors"))
    stages = STAGES if start is None else STAGES[-1:]
    whole = sum(stage.share for stage in stages)
    dataset = None
    for stage in stages:
        share = stage.share / whole
        done = out / "checkpoints" / stage.name / "done.safetensors"
        if resume and done.is_file():
            load_matching(model, read_tensors(done))
            continue
        if dataset is None or dataset.size != stage.size:
            dataset = PictureDataset(records, vocabulary, processor, grid=grid, size=stage.size)
        dataset.turns = stage.turns
        tower = bird.model.vision_tower.requires_grad_(not stage.blind)
        with _pictures_of(tower, stage.size):
            train(
                model if stage.turns else SeeingModel(tower, heads),
                dataset,
                done.parent,
                steps=max(1, round(share * steps)),
                minutes=share * minutes if minutes is not None else None,
                batch=batch,
                learning_rate=stage.learning_rate,
                resume=resume,
            )
        save_file(model.state_dict(), done)
    save_mini(bird, processor, vocabulary, out / "bird-mini")
    return out / "bird-mini"


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


def read_classes(path: Path) -> dict[int, str]:
    """Names by label value from a JSON object such as `{"17": "left_hippocampus"}`."""
    try:
        return {int(value): str(name) for value, name in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BirdError(
            f"{path}: is not a JSON object of label values and names ({error})"
        ) from error
