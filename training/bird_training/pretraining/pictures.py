"""The training set: pictures in memory, drawn with fresh augmentation and fresh questions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose
from torch.utils.data import Dataset

from bird_training.masks import connected_areas
from bird_training.packing import PackedSequence, collate_packed, pack_turns
from bird_training.records import PictureRecord
from bird_training.regions import Vocabulary, region_of
from bird_training.transforms.pictures import LoadPicture, augmentation
from bird_training.writers.dialogues import PlacedObject, Turn, write_turns
from bird_vlm.boxes import NORM_MAX, BoxNorm, mask_to_box_pixel, pixel_to_norm
from bird_vlm.grammar import BOX_START, REF_START, parse_grounding
from bird_vlm.processing_bird import BirdProcessor

_MIN_KEPT = 0.25  # share of an object that must stay on the picture for it to be asked for
_NEAR_MISSES = 6
_ELSEWHERE = 3


class PictureDataset(Dataset):
    """Records -> model inputs of one picture and its questions (`collate` makes a batch).

    Every draw is random: augmentation, questions and absent objects. With no `turns` there are
    pictures alone. `grid` is the side of the dense targets in cells.
    """

    def __init__(
        self,
        records: Sequence[PictureRecord],
        vocabulary: Vocabulary,
        processor: BirdProcessor,
        *,
        grid: int,
        turns: int = 0,
        workers: int = 2,
    ) -> None:
        self.records = list(records)
        self.vocabulary = vocabulary
        self.classes = {label: i for i, label in enumerate(vocabulary.labels)}
        self.grid, self.turns = grid, turns
        image_processor = processor.image_processor
        self.size = image_processor.size["height"]
        self.mean = torch.tensor(image_processor.image_mean)[:, None, None]
        self.std = torch.tensor(image_processor.image_std)[:, None, None]
        self.writer = TurnTokens(processor)
        self.cached = CacheDataset(
            self.records,
            Compose([LoadPicture(self.size), _pack_masks]),
            num_workers=workers,
            progress=False,
        )
        self.augment = augmentation(self.size)

    def __len__(self) -> int:
        return len(self.cached)

    def __getitem__(self, index: int) -> dict[str, Any]:
        seed = int(torch.randint(2**31, ()))
        self.augment.set_random_state(seed)
        cached = _unpack_masks(self.cached[index])
        sample = self.augment(cached)
        record: PictureRecord = sample["record"]
        image = sample["image"].as_tensor().clamp(0, 1).expand(3, -1, -1)
        seen = {
            "pixel_values": (image - self.mean) / self.std,
            "dense": self._dense(sample, record),
        }
        if not self.turns:
            return seen
        objects = self._placed(sample, cached["instances"])
        return seen | self._said(record, sample["labels"], objects, random.Random(seed))

    def _said(
        self,
        record: PictureRecord,
        labels: list[str],
        objects: list[PlacedObject],
        rng: random.Random,
    ) -> dict[str, Any]:
        absent = self._absent(record, labels, rng)
        turns = write_turns(
            record.modality,
            region_of(record.dataset),
            objects,
            absent,
            rng,
            self.turns,
            plane=record.plane,
        )
        found = [boxes for turn in turns if turn.task == "VG" and (boxes := _answered(turn))]
        return {
            "sequence": self.writer.pack(turns),
            "answer_boxes": _unit([box for boxes in found for box in boxes]),
            "answer_hulls": _unit([_hull(boxes) for boxes in found]),
        }

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Samples -> arguments of `PretrainingModel.forward`, or `SeeingModel.forward`."""
        cover, boxes, known = zip(*(s["dense"] for s in samples), strict=True)
        seen = {
            "pixel_values": torch.stack([s["pixel_values"] for s in samples]),
            "cover": torch.stack(cover),
            "boxes": torch.stack(boxes),
            "known": torch.stack(known),
        }
        return seen | self._collate_said(samples) if self.turns else seen

    def _collate_said(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        packed = collate_packed([s["sequence"] for s in samples], self.writer.pad_id)
        return {
            **packed,
            "answer_boxes": torch.cat([s["answer_boxes"] for s in samples]),
            "before_boxes": packed["labels"] == self.writer.box_id,
            "answer_hulls": torch.cat([s["answer_hulls"] for s in samples]),
            "before_answers": (packed["labels"] == self.writer.ref_id).roll(-1, dims=1),
        }

    def _placed(self, sample: dict[str, Any], before: torch.Tensor) -> list[PlacedObject]:
        placed = []
        for label, mask, original in zip(
            sample["labels"], sample["instances"], before, strict=True
        ):
            box_pixel = mask_to_box_pixel(mask.numpy())
            if box_pixel and mask.sum() >= _MIN_KEPT * original.sum():
                area_norm = round(float(mask.mean()) * NORM_MAX**2)
                parts = len(connected_areas(mask.numpy()))
                box_norm = pixel_to_norm(box_pixel, self.size, self.size)
                placed.append(PlacedObject(label, box_norm, area_norm, parts))
        return placed

    def _absent(self, record: PictureRecord, labels: list[str], rng: random.Random) -> list[str]:
        near = [x for x in self.vocabulary.near_misses(record) if x not in labels]
        far = self.vocabulary.elsewhere(record.dataset)
        return rng.sample(near, min(_NEAR_MISSES, len(near))) + rng.sample(
            far, min(_ELSEWHERE, len(far))
        )

    def _dense(
        self, sample: dict[str, Any], record: PictureRecord
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        cover = torch.zeros(len(self.classes), self.grid, self.grid)
        boxes = torch.zeros(len(self.classes), 4)
        known = torch.zeros(len(self.classes))
        told = self.vocabulary.near_misses(record) + self.vocabulary.elsewhere(record.dataset)
        known[[self.classes[label] for label in told]] = 1
        area = dict.fromkeys(sample["labels"], 0.0)
        for label, mask in zip(sample["labels"], sample["instances"], strict=True):
            row = self.classes.get(label)  # None: a mirrored name that no source has
            if row is None:
                continue
            known[row] = 1
            box_pixel = mask_to_box_pixel(mask.numpy())
            if box_pixel is None:
                continue
            cover[row] = torch.maximum(
                cover[row], torch.nn.functional.adaptive_avg_pool2d(mask[None], self.grid)[0]
            )
            if mask.sum() > area[label]:
                area[label] = float(mask.sum())
                boxes[row] = torch.tensor(box_pixel) / self.size
        return cover, boxes, known


def _pack_masks(sample: dict[str, Any]) -> dict[str, Any]:
    """Masks as bits: a brain scan has thirty of them, which fill the memory otherwise."""
    return {**sample, "instances": np.packbits(sample["instances"].numpy(), axis=-1)}


def _unpack_masks(sample: dict[str, Any]) -> dict[str, Any]:
    width = sample["image"].shape[-1]
    masks = np.unpackbits(sample["instances"], axis=-1, count=width)
    return {**sample, "instances": torch.from_numpy(masks)}


def _answered(turn: Turn) -> tuple[BoxNorm, ...]:
    return parse_grounding(turn.answer).boxes_norm


def _hull(boxes: Sequence[BoxNorm]) -> BoxNorm:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _unit(boxes: Sequence[BoxNorm]) -> torch.Tensor:
    """Norm boxes as (n, 4) in 0..1."""
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) / NORM_MAX


class TurnTokens:
    """Turns -> tokens, as the processor's chat template writes a conversation of one turn."""

    def __init__(self, processor: BirdProcessor) -> None:
        self.tokenizer = processor.tokenizer
        self.pad_id = self.tokenizer.pad_token_id
        self.box_id = self.tokenizer.convert_tokens_to_ids(BOX_START)
        self.ref_id = self.tokenizer.convert_tokens_to_ids(REF_START)
        self.prefix, self.after_question = processor.around_question()

    def pack(self, turns: Sequence[Turn]) -> PackedSequence:
        """One packed sequence with a block per turn; the loss covers answers and their ends."""
        end = self.tokenizer.eos_token
        return pack_turns(
            self.prefix,
            [
                (self._ids(turn.question + self.after_question), self._ids(turn.answer + end))
                for turn in turns
            ],
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]
