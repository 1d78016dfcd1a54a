"""How bird-mini is made: which sources, which split, which model, for how long."""

from __future__ import annotations

import json
from pathlib import Path

from bird_training.finetune import train
from bird_training.mini import mini_model, mini_processor, save_mini
from bird_training.pictures import PictureDataset
from bird_training.regions import Vocabulary
from bird_training.sources.labelled_volume import write_labelled_slices
from bird_training.sources.sa_med2d import read_sa_med2d
from bird_training.splits import split_by_case
from bird_vlm.errors import BirdError
from bird_vlm.processing_bird import BirdProcessor


def train_mini(
    source: Path,
    out: Path,
    *,
    test_fraction: float,
    brain: tuple[Path, Path, dict[int, str]] | None = None,
    copies: int = 36,
    minutes: float | None = None,
    steps: int = 12_000,
    batch: int = 24,
    learning_rate: float = 1e-3,
    start: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train bird-mini from scratch on the training side of `source`; returns the model's folder.

    `brain` names a labelled brain scan (image, label map, names by value) whose deformed slices
    join the training set. `out` gets `checkpoints/`, `slices/` and `bird-mini/`.
    """
    records, _ = split_by_case(read_sa_med2d(source), test_fraction)
    if brain is not None:
        image, labels, classes = brain
        records += write_labelled_slices(
            image, labels, classes, out / "slices", dataset="OASIS", modality="mr", copies=copies
        )
    vocabulary = Vocabulary(records)
    processor = _processor_of(start) or mini_processor(records, vocabulary)
    model = mini_model(processor.tokenizer)
    grid = model.config.vision_config.grid_size
    dataset = PictureDataset(records, vocabulary, processor, grid=grid, turns=4)
    train(
        model,
        dataset,
        out / "checkpoints",
        steps=steps,
        minutes=minutes,
        batch=batch,
        learning_rate=learning_rate,
        start=start,
        resume=resume,
    )
    save_mini(model, processor, vocabulary, out / "bird-mini")
    return out / "bird-mini"


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
