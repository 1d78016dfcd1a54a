"""The baseline to beat: a plain convolutional network that answers one class with one box.

    python benchmarks/box_regressor.py SA-Med2D/ OUT --minutes 40 --json baseline.json

Picture (160 px) and class in, one box out; about 2.5 million parameters, no text. It is trained on
the same split, with the same augmentation and the same balance of sources as bird-mini, and scored
by the same rule as `medgrit evaluate`: a target counts as found if the box overlaps it with an IoU
above 0.5, and the mean over modalities is unweighted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from box_network import BoxRegressor
from monai.data import CacheDataset
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from bird_training.masks import record_boxes_norm
from bird_training.pretraining.dense import box_distance
from bird_training.pretraining.trainer import cosine, source_weights
from bird_training.records import PictureRecord
from bird_training.sources.sa_med2d import read_sa_med2d
from bird_training.splits import split_by_case
from bird_training.transforms.pictures import LoadPicture, ToFloat, augmentation
from bird_training.twins import find_twins
from bird_training.writers.dialogues import MAX_BOXES
from bird_vlm.boxes import NORM_MAX, iou, mask_to_box_pixel
from bird_vlm.console import console, plain_errors, progress
from bird_vlm.errors import BirdError

SIZE = 160  # pixels a side
BATCH = 32  # pictures
LEARNING_RATE, WEIGHT_DECAY = 1.5e-3, 0.05
MIN_IOU = 0.5
MIN_KEPT = 0.25  # share of an object that must stay on the augmented picture
QUERIES = 4  # objects of one picture asked for in one step
SAVE_SECONDS = 60
CHECKPOINT = "checkpoint.pt"


class BoxPictures(Dataset):
    """Training pictures in memory, drawn with fresh augmentation, with a box per object."""

    def __init__(self, records: Sequence[PictureRecord], labels: Sequence[str]) -> None:
        self.classes = {label: i for i, label in enumerate(labels)}
        self.cached = CacheDataset(list(records), LoadPicture(SIZE), num_workers=2, progress=False)
        self.augment = augmentation(SIZE)

    def __len__(self) -> int:
        return len(self.cached)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.augment.set_random_state(int(torch.randint(2**31, ())))
        cached = self.cached[index]
        sample = self.augment(cached)
        found = []
        for label, mask, before in zip(
            sample["labels"], sample["instances"], cached["instances"], strict=True
        ):
            box_pixel = mask_to_box_pixel(mask.numpy())
            # a mirrored name that no source has is not among the classes
            if box_pixel and mask.sum() >= MIN_KEPT * before.sum() and label in self.classes:
                found.append((self.classes[label], box_pixel))
        found = [found[i] for i in torch.randperm(len(found))[:QUERIES]]
        image = sample["image"].as_tensor().clamp(0, 1).expand(3, -1, -1)
        boxes = torch.tensor([box for _, box in found], dtype=torch.float32).reshape(-1, 4) / SIZE
        classes = torch.tensor([number for number, _ in found], dtype=torch.long)
        return {"picture": image, "classes": classes, "boxes": boxes}


def collate(samples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    counts = torch.tensor([len(sample["classes"]) for sample in samples])
    return {
        "pictures": torch.stack([sample["picture"] for sample in samples]),
        "picture_of": torch.arange(len(samples)).repeat_interleave(counts),
        "classes": torch.cat([sample["classes"] for sample in samples]),
        "boxes": torch.cat([sample["boxes"] for sample in samples]),
    }


@dataclass
class Training:
    """A network on its way; survives a kill by its checkpoint."""

    model: BoxRegressor
    optimizer: torch.optim.Optimizer
    labels: list[str]  # the classes, by number
    path: Path
    device: str = "cpu"
    seconds: float = 0.0
    steps: int = 0
    loss: float = field(default=2.0)  # running mean

    @classmethod
    def begin(cls, labels: list[str], path: Path, device: str = "cpu") -> Training:
        model = BoxRegressor(len(labels)).to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
        )
        return cls(model, optimizer, labels, path, device)

    def save(self) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        numbers = {"seconds": self.seconds, "steps": self.steps, "loss": self.loss}
        beside = self.path.with_suffix(".part")
        torch.save(state | numbers | {"labels": self.labels}, beside)
        os.replace(beside, self.path)

    def load(self) -> None:
        if not self.path.is_file():
            raise BirdError(f"resume: there is no {self.path}; start without it")
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        if state["labels"] != self.labels:
            raise BirdError(f"resume: {self.path} was trained on other objects; start without it")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.seconds, self.steps, self.loss = state["seconds"], state["steps"], state["loss"]

    def step(self, batch: dict[str, torch.Tensor], done: float) -> None:
        """One optimiser step when `done` (0..1) of the training is over."""
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * cosine(done)
        batch = {name: value.to(self.device) for name, value in batch.items()}
        pictures = batch["pictures"].contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16):
            boxes = self.model(pictures, batch["picture_of"], batch["classes"])
        loss = box_distance(boxes, batch["boxes"]).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self.loss = 0.98 * self.loss + 0.02 * float(loss.detach())


def train(training: Training, dataset: BoxPictures, minutes: float, workers: int) -> None:
    """Train until `minutes` are used up, those before a resume included."""
    records = [sample["record"] for sample in dataset.cached]
    sampler = WeightedRandomSampler(source_weights(records), len(records))
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    limit, saved = 60 * minutes, training.seconds
    training.model.train()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        job = bar.add_task("training", total=limit)
        last = time.monotonic()
        for batch in _endless(loader):
            if training.seconds >= limit:
                break
            if len(batch["boxes"]):
                training.step(batch, training.seconds / limit)
            now = time.monotonic()
            training.seconds, last = training.seconds + now - last, now
            shown = f"step {training.steps}, loss {training.loss:.3f}"
            bar.update(job, completed=training.seconds, description=shown)
            if training.seconds - saved > SAVE_SECONDS:
                saved = training.seconds
                training.save()
    training.save()


def _endless(loader: DataLoader) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        yield from loader


@torch.inference_mode()
def predict(training: Training, record: PictureRecord, labels: Sequence[str]) -> list[tuple]:
    """A box per label, all of which the training knows, in 0..1000 of the picture, not rounded."""
    if not labels:
        return []
    picture = ToFloat()(LoadPicture(SIZE)(record))["image"].expand(3, -1, -1)[None]
    classes = torch.tensor([training.labels.index(label) for label in labels])
    asked = (picture, torch.zeros_like(classes), classes)
    boxes = training.model(*(value.to(training.device) for value in asked))
    return [tuple(box) for box in (boxes * NORM_MAX).tolist()]


def measure(
    training: Training, records: Sequence[PictureRecord]
) -> dict[tuple[str, str], list[int]]:
    """[found, targets] by modality and dataset; a class that training lacks is never found."""
    training.model.eval()
    tallies: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    with progress("held-out pictures") as show:
        for done, record in enumerate(records, start=1):
            targets = record_boxes_norm(record, MAX_BOXES)
            asked = [label for label in targets if label in training.labels]
            answers = dict(zip(asked, predict(training, record, asked), strict=True))
            tally = tallies[record.modality, record.dataset]
            for label, wanted in targets.items():
                found = [label in answers and iou(answers[label], box) > MIN_IOU for box in wanted]
                tally[0] += sum(found)
                tally[1] += len(wanted)
            show(done, len(records))
    return dict(tallies)


@dataclass(frozen=True)
class Report:
    """What the benchmark says; recall 0..1."""

    recall: dict[str, float]  # by modality
    mean: float  # over modalities, unweighted
    hits_total: dict[str, list[int]]  # by modality
    by_dataset: dict[str, list[int]]  # [hits, total] by "<modality> <dataset>"
    seconds: float
    steps: int
    parameters: int
    pictures: dict[str, int]  # train and test


def report(
    tallies: dict[tuple[str, str], list[int]], training: Training, pictures: dict[str, int]
) -> Report:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (modality, _), (hits, total) in tallies.items():
        counts[modality] = [counts[modality][0] + hits, counts[modality][1] + total]
    recall = {name: hits / total for name, (hits, total) in counts.items() if total}
    return Report(
        recall=recall,
        mean=sum(recall.values()) / len(recall) if recall else math.nan,
        hits_total=dict(counts),
        by_dataset={" ".join(key): tally for key, tally in sorted(tallies.items())},
        seconds=round(training.seconds, 1),
        steps=training.steps,
        parameters=sum(p.numel() for p in training.model.parameters()),
        pictures=pictures,
    )


def print_table(result: Report) -> None:
    trained = f"{result.parameters / 1e6:.2f} M parameters, {result.seconds / 60:.1f} min"
    table = Table("modality", "found", "recall", title=f"box regressor, {trained}")
    for modality, (hits, total) in result.hits_total.items():
        table.add_row(modality, f"{hits}/{total}", f"{hits / total:.3f}" if total else "-")
    table.add_row("mean", "", f"{result.mean:.3f}", style="bold")
    Console().print(table)


@plain_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder in the SA-Med2D-20M layout")
    parser.add_argument("out", type=Path, help="for the checkpoint")
    parser.add_argument("--minutes", type=float, default=40.0, help="of training in all")
    parser.add_argument("--test-fraction", type=float, default=0.15, help="of each source's cases")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help=f"cpu or cuda ({device})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from OUT's checkpoint")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    records = read_sa_med2d(given.source)
    with progress("looking for near-duplicates") as show:
        twins = find_twins(records, on_picture=show)
    train_side, test_side = split_by_case(records, given.test_fraction, twins)
    train_side = [record for record in train_side if record.objects]
    labels = sorted({o.label for record in train_side for o in record.objects})
    training = Training.begin(labels, given.out / CHECKPOINT, given.device)
    if given.resume:
        training.load()
    train(training, BoxPictures(train_side, labels), given.minutes, given.workers)
    tallies = measure(training, test_side)
    result = report(tallies, training, {"train": len(train_side), "test": len(test_side)})
    print_table(result)
    if given.json:
        given.json.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
