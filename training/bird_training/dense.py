"""Dense supervision of the vision grid: per class, where it is and how far its box reaches.

Only training has this head. Its loss teaches the small vision part to see before the decoder can
read; the shipped model answers with digits alone. Knows nothing about text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

_MIN_COVER = 0.3  # share of a cell that an object must fill for the cell to speak for its box


@dataclass
class DenseTargets:
    """What the grid should say; `g` cells a side, `c` classes."""

    cover: torch.Tensor  # (batch, c, g, g), share of the cell that the class fills, 0..1
    boxes: torch.Tensor  # (batch, c, 4), x0, y0, x1, y1 in 0..1 of the picture
    known: torch.Tensor  # (batch, c), 1 where the picture tells whether the class is there

    def to(self, device: torch.device) -> DenseTargets:
        return DenseTargets(*(t.to(device) for t in (self.cover, self.boxes, self.known)))


class DenseHead(nn.Module):
    """Grid features -> per class a mask logit and the distances to the four sides of its box."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mask = nn.Linear(width, classes)
        self.sides = nn.Linear(width, 4 * classes)
        nn.init.constant_(self.mask.bias, -3.0)

    def forward(self, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, g, g, width) -> mask logits (batch, c, g, g), boxes (batch, c, g, g, 4)."""
        features = self.norm(grid)
        mask = self.mask(features).permute(0, 3, 1, 2)
        sides = self.sides(features).unflatten(-1, (-1, 4)).permute(0, 3, 1, 2, 4)
        return mask, _cell_centres(grid.shape[1], grid.device) + sides

    def loss(self, grid: torch.Tensor, targets: DenseTargets) -> torch.Tensor:
        """Mask (cross-entropy and Dice) plus box (L1 and generalised IoU) loss, a scalar."""
        mask, boxes = self(grid)
        return _mask_loss(mask, targets) + _box_loss(boxes, targets)


def _cell_centres(side: int, device: torch.device) -> torch.Tensor:
    steps = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y, x, y], dim=-1)  # (g, g, 4)


def _mask_loss(mask: torch.Tensor, targets: DenseTargets) -> torch.Tensor:
    known = targets.known[..., None, None]
    weight = known * (1 + 4 * targets.cover)
    entropy = F.binary_cross_entropy_with_logits(mask, targets.cover, reduction="none")
    entropy = (entropy * weight).sum() / weight.sum().clamp(min=1)
    share = mask.sigmoid()
    overlap = 2 * (share * targets.cover).sum((2, 3)) + 0.1
    dice = 1 - overlap / (share.sum((2, 3)) + targets.cover.sum((2, 3)) + 0.1)
    present = (targets.cover.amax((2, 3)) > 0) & (targets.known > 0)
    return 4 * entropy + (dice * present).sum() / present.sum().clamp(min=1)


def _box_loss(boxes: torch.Tensor, targets: DenseTargets) -> torch.Tensor:
    peak = targets.cover.amax((2, 3), keepdim=True)
    inside = (targets.cover >= torch.clamp(peak, max=_MIN_COVER)) & (targets.cover > 0)
    batch, classes, _, _ = inside.nonzero(as_tuple=True)
    if not len(batch):
        return boxes.sum() * 0
    predicted, wanted = boxes[inside], targets.boxes[batch, classes]
    cells = inside.sum((2, 3)).clamp(min=1)[batch, classes]  # each object counts the same
    distance = (predicted - wanted).abs().sum(-1) + 1 - _generalised_iou(predicted, wanted)
    return (distance / cells).sum() / (1 / cells).sum()


def _generalised_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Of (n, 4) boxes; -1..1. Predicted sides may cross: an inverted box has no area."""
    overlap = _area(
        torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    )
    hull = _area(
        torch.minimum(first[:, :2], second[:, :2]), torch.maximum(first[:, 2:], second[:, 2:])
    )
    union = _area(first[:, :2], first[:, 2:]) + _area(second[:, :2], second[:, 2:]) - overlap
    return overlap / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def _area(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (high - low).clamp(min=0).prod(-1)
