"""Measures a model on held-out pictures: does it find what is there and refuse what is not?

Every picture goes the product's own way: reader, slice picture, engine. Rules of the paper's
evaluation: a target is found if any answered box overlaps it with an IoU above 0.5; a name is right
if every word of it is in the answer; the mean over modalities is unweighted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from bird_training.dialogues import MAX_BOXES
from bird_training.masks import read_mask
from bird_training.records import PictureRecord
from bird_training.regions import Vocabulary
from bird_vlm.boxes import BoxNorm, iou, mask_to_box_pixel, pixel_to_norm
from bird_vlm.engine import Engine
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import read_volume
from bird_vlm.windows import slice_picture

RATES = ("recall", "absent_refused", "false_refusal", "naming")
_MIN_IOU = 0.5
_ABSENT_PER_PICTURE = 4  # questions for absent objects, half of them near misses where there are


@dataclass
class Tally:
    """Counts over pictures; add them up with `+`."""

    targets: int = 0  # boxes to find
    found: int = 0  # of these, with IoU > 0.5
    asked_present: int = 0  # grounding questions for objects that are there
    refused_present: int = 0  # of these, answered as absent
    asked_absent: int = 0
    refused_absent: int = 0
    named: int = 0  # boxes to name
    named_right: int = 0
    unreadable: int = 0  # answers that are not in the language of boxes

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))

    def rates(self) -> dict[str, float | None]:
        """Shares 0..1; None where nothing was asked."""
        return {
            "recall": _share(self.found, self.targets),
            "false_refusal": _share(self.refused_present, self.asked_present),
            "absent_refused": _share(self.refused_absent, self.asked_absent),
            "naming": _share(self.named_right, self.named),
        }


def validate(
    engine: Engine,
    records: Sequence[PictureRecord],
    vocabulary: Vocabulary,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Tally]:
    """Tallies by modality over `records`, which the model has not seen.

    `vocabulary` tells which objects are certainly absent from a picture.
    """
    tallies: dict[str, Tally] = {}
    for number, record in enumerate(records, start=1):
        tally = tally_picture(engine, record, _absent(record, vocabulary))
        tallies[record.modality] = tallies.get(record.modality, Tally()) + tally
        on_picture(number, len(records))
    return tallies


def macro_mean(tallies: dict[str, Tally], rate: str) -> float | None:
    """Unweighted mean of a rate over the modalities that have it; None where none has."""
    values = [tally.rates()[rate] for tally in tallies.values()]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def report(tallies: dict[str, Tally]) -> dict[str, dict[str, float | None]]:
    """Counts and rates by modality, and under "mean" the unweighted means of the rates."""
    by_modality = {name: vars(tally) | tally.rates() for name, tally in tallies.items()}
    return by_modality | {"mean": {rate: macro_mean(tallies, rate) for rate in RATES}}


def tally_picture(engine: Engine, record: PictureRecord, absent: Sequence[str]) -> Tally:
    """Ask one picture for its objects, for absent ones, and for the names of its boxes."""
    volume = read_volume(record.image)
    stack = slice_stack(volume.geometry(), "axial")
    features = engine.encode([slice_picture(volume, stack, 0)])
    targets = _targets(record)
    labels = list(targets)
    tally = Tally(asked_present=len(labels), asked_absent=len(absent))
    answers = engine.ground(features, [*labels, *absent])[0] if labels or absent else []
    for label, answer in zip(labels, answers, strict=False):
        tally.targets += len(targets[label])
        tally.found += sum(
            any(iou(box, target) > _MIN_IOU for box in answer.boxes_norm)
            for target in targets[label]
        )
        tally.refused_present += not answer.text
    tally.refused_absent = sum(not answer.text for answer in answers[len(labels) :])
    tally.unreadable = sum(answer.unreadable for answer in answers)
    for label, boxes in targets.items():
        for box in boxes:
            words = engine.refer(features, box, "roc").text.lower()
            tally.named += 1
            tally.named_right += all(word in words for word in label.split())
    return tally


def _targets(record: PictureRecord) -> dict[str, list[BoxNorm]]:
    """The boxes of each object, largest first."""
    targets: dict[str, list[tuple[int, BoxNorm]]] = {}
    for item in record.objects:
        mask = read_mask(item)
        box_pixel = mask_to_box_pixel(mask)
        if box_pixel:
            box = pixel_to_norm(box_pixel, mask.shape[1], mask.shape[0])
            targets.setdefault(item.label, []).append((int(mask.sum()), box))
    return {
        label: [box for _, box in sorted(boxes, reverse=True)[:MAX_BOXES]]
        for label, boxes in targets.items()
    }


def _absent(record: PictureRecord, vocabulary: Vocabulary) -> list[str]:
    rng = random.Random(record.id)
    near, far = vocabulary.near_misses(record), vocabulary.elsewhere(record.dataset)
    chosen = rng.sample(near, min(len(near), _ABSENT_PER_PICTURE // 2))
    return chosen + rng.sample(far, min(len(far), _ABSENT_PER_PICTURE - len(chosen)))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
