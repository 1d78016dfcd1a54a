"""Pictures on their way to a model that cannot be asked to read them once: kept as they are.

Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image


def as_features(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures (height, width[, 3]) uint8 of one size -> (pictures, ...) uint8 in main memory."""
    return torch.from_numpy(np.stack(pictures))


def as_picture(pixels: torch.Tensor) -> Image.Image:
    """(height, width[, 3]) uint8 -> RGB."""
    return Image.fromarray(pixels.cpu().numpy()).convert("RGB")
