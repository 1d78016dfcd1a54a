"""What is known of one picture before a word is written: the instance-level meta information.

Paper, section 3.1, step (i). Sources and masks are behind, writers and files ahead; this holds
only the nouns that they hand to each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bird_vlm.boxes import BoxNorm

TASKS = ("VG", "ROC", "RC", "MIA")


@dataclass(frozen=True)
class PlacedObject:
    """One annotated instance where the picture shows it."""

    label: str  # natural name, e.g. "right kidney"
    box_norm: BoxNorm
    area_norm: int | None = None  # of its mask, in square thousandths as the box's; None: not known
    parts: int = 1  # connected areas of its mask


@dataclass(frozen=True)
class PictureFacts:
    """Everything a writer may say about a picture; nothing else may be said."""

    id: str  # "<modality>_...", unique over the whole build
    image: Path
    modality: str  # ct, mr, x, pet, endoscopy, dermoscopy, fundus or ultrasound
    dataset: str
    case: str
    region: str  # of the body, e.g. "abdomen"
    plane: str  # axial, coronal, sagittal; "" where the source does not tell
    objects: tuple[PlacedObject, ...]
    absent: tuple[str, ...]  # certainly not on the picture, the most plausible ones first


@dataclass(frozen=True)
class Turn:
    """One question about the picture and its answer."""

    task: Literal["VG", "ROC", "RC", "MIA"]
    question: str
    answer: str


@dataclass(frozen=True)
class WrittenPicture:
    """What a writer made of the facts."""

    caption: str
    turns: tuple[Turn, ...]  # single questions; the task says into which file each goes
    dialogue: tuple[Turn, ...] = ()  # one conversation of several turns, () for none
