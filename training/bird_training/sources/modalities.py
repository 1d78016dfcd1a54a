"""The modalities of Med-GRIT, by the words that its names begin with.

Knows nothing about files.
"""

from __future__ import annotations

from bird_vlm.errors import BirdError

MODALITIES = ("ct", "mr", "x", "pet", "endoscopy", "dermoscopy", "fundus", "ultrasound")


def check_modality(modality: str) -> None:
    """Raises BirdError, with the known ones, where `modality` is none of them."""
    if modality not in MODALITIES:
        raise BirdError(f"modality: {modality!r} is none of {', '.join(MODALITIES)}")
