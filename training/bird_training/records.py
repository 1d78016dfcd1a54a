"""One picture and what is annotated on it: what every source yields and every step reads.

Knows nothing about file layouts, tensors or questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ObjectRecord:
    """One annotated instance."""

    label: str  # natural name, e.g. "right kidney"
    mask: Path  # picture of the same size as the image
    value: int | None = None  # of the object's pixels in the mask; None = all that are not zero


@dataclass(frozen=True)
class PictureRecord:
    """One picture; an empty `objects` is a picture on which nothing is to be found."""

    id: str  # "<modality>_...", unique within its source
    image: Path
    modality: str  # ct, mr, x, pet, endoscopy, dermoscopy, fundus or ultrasound
    dataset: str
    case: str  # the patient, as far as the source tells: the unit of every split
    objects: tuple[ObjectRecord, ...]
    plane: str = ""  # axial, coronal or sagittal where the source tells; "" otherwise
