"""The baseline to beat: a plain convolutional network that answers one class with one box.

    medgrit build SA-Med2D/ BUILT
    python benchmarks/box_regressor.py SA-Med2D/ OUT --questions BUILT/test --minutes 40
    medgrit evaluate --predictions OUT/predictions

Picture (160 px) and class in, one box out; about 2.5 million parameters, no text. It is trained on
the same split, with the same augmentation and the same balance of sources as bird-mini, and answers
the same questions, in the same files, to be scored by the same command. It cannot say that an
object is absent.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from box_network import BoxRegressor
from monai.data import CacheDataset
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from bird_training.evaluation.answering import Answer
from bird_training.evaluation.predict import predict
from bird_training.evaluation.questions import Question, read_test_set
from bird_training.pretraining.dense import box_distance
from bird_training.pretraining.trainer import cosine, source_weights
from bird_training.records import PictureRecord
from bird_training.sources.reading import read_slice_picture
from bird_training.sources.sa_med2d import read_sa_med2d
from bird_training.splits import split_by_case
from bird_training.transforms.pictures import LoadPicture, augmentation, squeezed
from bird_training.twins import find_twins
from bird_vlm.boxes import NORM_MAX, BoxNorm, mask_to_box_pixel
from bird_vlm.console import console, plain_errors, progress
from bird_vlm.errors import BirdError
from bird_vlm.grammar import format_present, parse_grounding
from bird_vlm.labels import without_side

SIZE = 160  # pixels a side
BATCH = 32  # pictures
LEARNING_RATE, WEIGHT_DECAY = 1.5e-3, 0.05
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


class BoxAnswerer:
    """The network as one that answers grounding questions, for `bird_training`'s `predict`."""

    name = "box-regressor"
    batch = 32

    def __init__(self, training: Training) -> None:
        self.training = training
        self.fingerprint = f"{training.steps} steps in {training.seconds:.1f} s"
        training.model.eval()

    def answer(self, batches: Iterable[Sequence[Question]]) -> Iterator[list[Answer]]:
        for batch in batches:
            yield [Answer(self._text(question)) for question in batch]

    def _text(self, question: Question) -> str:
        """A box for each class that the question's words mean: "kidney" is both of them."""
        asked = parse_grounding(question.annotation).label
        meant = [label for label in self.training.labels if asked in (label, without_side(label))]
        boxes = self._boxes_norm(question.picture, meant) if meant else []
        return format_present(asked, tuple(box for box in boxes if _is_box(box)))

    @torch.inference_mode()
    def _boxes_norm(self, picture: Path, labels: Sequence[str]) -> list[BoxNorm]:
        training = self.training
        image = squeezed(read_slice_picture(picture), SIZE).float().expand(3, -1, -1)[None] / 255
        classes = torch.tensor([training.labels.index(label) for label in labels])
        asked = (image, torch.zeros_like(classes), classes)
        boxes = training.model(*(value.to(training.device) for value in asked))
        return [tuple(box) for box in (boxes * NORM_MAX).round().int().clamp(0, NORM_MAX).tolist()]


def _is_box(box_norm: BoxNorm) -> bool:
    return box_norm[0] < box_norm[2] and box_norm[1] < box_norm[3]


def grounding_questions(folder: Path, trained_on: Sequence[PictureRecord]) -> list[Question]:
    """Those of a built test set. Raises BirdError where a case of it is trained on."""
    questions = [question for question in read_test_set(folder) if question.task == "VG"]
    seen = {f"{record.dataset}/{record.case}" for record in trained_on}
    if leaked := sorted({question.case for question in questions} & seen):
        raise BirdError(
            f"questions: {folder} asks about {leaked[0]}, which is trained on; build the test set "
            "from the same folder, with the same --test-fraction"
        )
    return questions


@plain_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder in the SA-Med2D-20M layout")
    parser.add_argument("out", type=Path, help="for the checkpoint and OUT/predictions")
    parser.add_argument("--questions", type=Path, required=True, help="test folder of a build")
    parser.add_argument("--minutes", type=float, default=40.0, help="of training in all")
    parser.add_argument("--test-fraction", type=float, default=0.15, help="of each source's cases")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help=f"cpu or cuda ({device})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from OUT's checkpoint")
    given = parser.parse_args()
    answered = given.out / "predictions"
    if answered.exists():
        raise BirdError(f"out: {answered} holds answers of a finished run; remove it, or move it")
    torch.manual_seed(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    records = read_sa_med2d(given.source)
    with progress("looking for near-duplicates") as show:
        twins = find_twins(records, on_picture=show)
    train_side, _ = split_by_case(records, given.test_fraction, twins)
    questions = grounding_questions(given.questions, train_side)
    train_side = [record for record in train_side if record.objects]
    labels = sorted({o.label for record in train_side for o in record.objects})
    training = Training.begin(labels, given.out / CHECKPOINT, given.device)
    if given.resume:
        training.load()
    train(training, BoxPictures(train_side, labels), given.minutes, given.workers)
    answerer = BoxAnswerer(training)
    with progress("questions") as show:
        predict(questions, answerer, answered, on_progress=show)
    parameters = sum(p.numel() for p in training.model.parameters()) / 1e6
    console.print(
        f"{parameters:.2f} M parameters, {training.steps} steps in {training.seconds / 60:.1f} min "
        f"on {len(train_side)} pictures; score with\n"
        f"medgrit evaluate --predictions {answered}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
