"""Questions and answers for the four tasks, written from what is annotated on a picture.

The offline writer: plain sentences, no language model. Knows nothing about files or tensors.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from bird_vlm.boxes import NORM_MAX, BoxNorm
from bird_vlm.grammar import format_absent, format_present
from bird_vlm.labels import without_side
from bird_vlm.prompts import grounding_prompt, referring_prompt

MAX_BOXES = 4  # of one object on one picture; the largest are kept
MODALITY_NAMES = {
    "ct": "CT",
    "mr": "MR",
    "x": "X-ray",
    "pet": "PET",
    "endoscopy": "endoscopy",
    "dermoscopy": "dermoscopy",
    "fundus": "fundus",
    "ultrasound": "ultrasound",
}


@dataclass(frozen=True)
class Turn:
    """One question about the picture and its answer."""

    task: str  # VG, ROC, RC or MIA
    question: str
    answer: str


@dataclass(frozen=True)
class PlacedObject:
    """An annotated object where the (augmented) picture shows it."""

    label: str
    box_norm: BoxNorm


def grounding_turn(label: str, objects: Sequence[PlacedObject]) -> Turn:
    """Where is `label`? All its boxes from left to right, or its absence.

    A label without a side asks for both: "kidney" finds the left and the right one.
    """
    boxes = [o.box_norm for o in objects if label in (o.label, without_side(o.label))]
    largest = sorted(boxes, key=_area, reverse=True)[:MAX_BOXES]
    answer = format_present(label, tuple(sorted(largest))) if boxes else format_absent(label)
    return Turn("VG", grounding_prompt(label), answer)


def naming_turn(placed: PlacedObject) -> Turn:
    """What is in this box?"""
    return Turn("ROC", referring_prompt("roc", placed.box_norm), placed.label)


def describing_turn(placed: PlacedObject, modality: str) -> Turn:
    """Describe this box."""
    answer = (
        f"The region shows the {placed.label} in the {place_in_words(placed.box_norm)} "
        f"of this {MODALITY_NAMES[modality]} image."
    )
    return Turn("RC", referring_prompt("rc", placed.box_norm), answer)


def analysis_turns(modality: str, region: str, objects: Sequence[PlacedObject]) -> list[Turn]:
    """Questions about the picture as a whole."""
    labels = sorted({o.label for o in objects})
    seen = f"The image shows the {_enumerate(labels)}." if labels else "Nothing abnormal is marked."
    shown = f"This is a {MODALITY_NAMES[modality]} image of the {region}."
    return [
        Turn("MIA", "What kind of image is this?", shown),
        Turn("MIA", "Which objects are visible in this image?", seen),
    ]


def write_turns(
    modality: str,
    region: str,
    objects: Sequence[PlacedObject],
    absent: Sequence[str],
    rng: random.Random,
    count: int,
) -> list[Turn]:
    """`count` turns for one picture: mostly grounding, a third of it of absent objects.

    `absent` names objects that are certainly not on the picture.
    """
    present = {o.label for o in objects}
    sideless = {without_side(o.label) for o in objects} - present
    grounding = [grounding_turn(label, objects) for label in sorted(present)]
    rng.shuffle(grounding)
    grounding += [
        grounding_turn(label, objects) for label in rng.sample(sorted(sideless), len(sideless))
    ]
    refused = [grounding_turn(label, ()) for label in rng.sample(list(absent), len(absent))]
    other = [naming_turn(o) for o in objects] * 2 + [describing_turn(o, modality) for o in objects]
    other += analysis_turns(modality, region, objects)
    rng.shuffle(other)
    turns = []
    while len(turns) < count and (grounding or refused or other):
        kind = rng.choices((grounding, refused, other), weights=(0.5, 0.25, 0.25))[0]
        if kind:
            turns.append(kind.pop(0))
    return turns


def place_in_words(box_norm: BoxNorm) -> str:
    """Where a box lies on the picture.

    >>> place_in_words((0, 0, 200, 200)), place_in_words((400, 300, 600, 700))
    ('upper left part', 'centre')
    """
    x, y = (box_norm[0] + box_norm[2]) / 2, (box_norm[1] + box_norm[3]) / 2
    row = _third(y, "upper", "lower")
    column = _third(x, "left", "right")
    return f"{' '.join(filter(None, (row, column)))} part" if row or column else "centre"


def _third(value: float, low: str, high: str) -> str:
    if value < NORM_MAX / 3:
        return low
    return high if value > 2 * NORM_MAX / 3 else ""


def _area(box_norm: BoxNorm) -> int:
    return (box_norm[2] - box_norm[0]) * (box_norm[3] - box_norm[1])


def _enumerate(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', the '.join(labels[:-1])} and the {labels[-1]}"
