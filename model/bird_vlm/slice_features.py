"""The features of a volume's slices: encoded when they are first asked for, then remembered.

Knows volumes, slices and windows; knows nothing about questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bird_vlm.contract import Plane
from bird_vlm.engine import Engine
from bird_vlm.slices import SliceStack
from bird_vlm.volumes import Volume
from bird_vlm.windows import Window, slice_picture

SliceName = tuple[str, Plane, int, Window | None]


class SliceFeatures:
    """Of one volume, in one plane and window."""

    def __init__(
        self, engine: Engine, volume: Volume, stack: SliceStack, window: Window | None
    ) -> None:
        self.engine, self.volume, self.stack, self.window = engine, volume, stack, window

    def of(self, indices: Sequence[int]) -> torch.Tensor:
        """(slices, image tokens, width), on the engine's device."""
        keys = self.names(indices)
        found = self.engine.features.get(keys)
        lacking = [place for place, kept in enumerate(found) if kept is None]
        if lacking:
            pictures = (
                slice_picture(self.volume, self.stack, indices[place], self.window)
                for place in lacking
            )
            fresh = self.engine.encode(list(pictures))
            self.engine.features.put([keys[place] for place in lacking], fresh)
            for place, features in zip(lacking, fresh, strict=True):
                found[place] = features
        return torch.stack([kept.to(self.engine.device) for kept in found])

    def names(self, indices: Sequence[int]) -> list[SliceName]:
        """What tells a slice as it is shown from all others."""
        return [(self.volume.digest, self.stack.plane, index, self.window) for index in indices]
