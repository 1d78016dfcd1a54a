"""Dense supervision of a grid of features: per class, where it is and how far its box reaches.

Only training has this head. Its loss teaches the small vision part to see before the decoder can
read; the shipped model answers in text alone. Knows nothing about text.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bird_vlm.configuration_bird import BirdVisionConfig
from bird_vlm.modeling_bird import BirdVisionTransformer

FINE = 2  # mask logits per side of a cell
_MIN_COVER = 0.3  # share of a cell that an object must fill for the cell to speak for its box


@dataclass
class DenseTargets:
    """What the grid should say; `g` cells a side, `c` classes."""

    cover: torch.Tensor  # (batch, c, g, g), share of the cell that the class fills, 0..1
    boxes: torch.Tensor  # (batch, c, 4), x0, y0, x1, y1 in 0..1 of the picture
    known: torch.Tensor  # (batch, c), 1 where the picture tells whether the class is there

    def on_grid(self, side: int) -> DenseTargets:
        """The same targets on a grid of `side` cells a side."""
        return DenseTargets(F.adaptive_avg_pool2d(self.cover, side), self.boxes, self.known)


class DenseHead(nn.Module):
    """Grid features -> per class a mask and the distances to the four sides of its box.

    The mask has `FINE` x `FINE` logits a cell, so that features tell where in their cell an object
    ends. With `shared_boxes` a cell has one box, that of the smallest object on it: whoever reads
    the features finds the sides in the same place whatever the class.
    """

    def __init__(self, width: int, classes: int, shared_boxes: bool = False) -> None:
        super().__init__()
        self.shared_boxes = shared_boxes
        self.norm = nn.LayerNorm(width)
        self.mask = nn.Linear(width, classes * FINE**2)
        self.sides = nn.Linear(width, 4 if shared_boxes else 4 * classes)
        nn.init.constant_(self.mask.bias, -3.0)

    def forward(self, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits and boxes, x0, y0, x1, y1 in 0..1 of the picture.

        (batch, g, g, width) -> (batch, c, FINE * g, FINE * g), (batch, c or 1, g, g, 4).
        """
        features = self.norm(grid)
        mask = F.pixel_shuffle(self.mask(features).permute(0, 3, 1, 2), FINE)
        sides = self.sides(features).unflatten(-1, (-1, 4)).permute(0, 3, 1, 2, 4)
        return mask, _cell_centres(grid.shape[1], grid.device) + sides

    def loss(self, grid: torch.Tensor, targets: DenseTargets) -> torch.Tensor:
        """Mask (cross-entropy and Dice) plus box (L1 and generalised IoU) loss, a scalar."""
        mask, boxes = self(grid)
        fine, targets = targets.on_grid(mask.shape[-1]), targets.on_grid(grid.shape[1])
        inside = _cells_of_objects(targets)
        if self.shared_boxes:
            inside = _smallest_only(inside, targets.boxes)
        boxes = boxes.expand(-1, mask.shape[1], -1, -1, -1)
        return _mask_loss(mask, fine) + _box_loss(boxes, inside, targets.boxes)


class SeeingHeads(nn.Module):
    """Dense heads on both things that the vision tower makes: its grid and its image tokens.

    The tokens are taken as a grid in the order of their positions. They have a head with a box per
    class and one with a shared box: the first keeps what tells classes apart, the second is what a
    reader learns fastest.
    """

    def __init__(self, config: BirdVisionConfig, classes: int) -> None:
        super().__init__()
        self.grid = DenseHead(config.hidden_size, classes)
        self.tokens = DenseHead(config.output_dim, classes)
        self.shared = DenseHead(config.output_dim, classes, shared_boxes=True)
        self.side = isqrt(config.num_queries)

    def losses(
        self, grid: torch.Tensor, tokens: torch.Tensor, targets: DenseTargets
    ) -> dict[str, torch.Tensor]:
        """Scalars by name; `grid` (batch, g, g, hidden), `tokens` (batch, queries, output)."""
        square = tokens.float().unflatten(1, (self.side, self.side))
        with torch.autocast(grid.device.type, enabled=False):
            return {
                "grid": self.grid.loss(grid.float(), targets),
                "tokens": self.tokens.loss(square, targets),
                "shared": self.shared.loss(square, targets),
            }


class SeeingModel(nn.Module):
    """The vision tower alone with its heads: learns to see before there is a word to say."""

    def __init__(self, tower: BirdVisionTransformer, heads: SeeingHeads) -> None:
        super().__init__()
        self.tower, self.heads = tower, heads

    def forward(
        self,
        pixel_values: torch.Tensor,
        cover: torch.Tensor,
        boxes: torch.Tensor,
        known: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """One step on a batch of `PictureDataset.collate` without turns."""
        grid = self.tower.encode_grid(pixel_values.contiguous(memory_format=torch.channels_last))
        losses = self.heads.losses(
            grid, self.tower.pool_grid(grid), DenseTargets(cover, boxes, known)
        )
        return {"loss": sum(losses.values()), **{k: v.detach() for k, v in losses.items()}}


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


def _cells_of_objects(targets: DenseTargets) -> torch.Tensor:
    """(batch, c, g, g), the cells that speak for the box of each class."""
    peak = targets.cover.amax((2, 3), keepdim=True)
    return (targets.cover >= torch.clamp(peak, max=_MIN_COVER)) & (targets.cover > 0)


def _smallest_only(inside: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Leaves each cell to the class with the smallest box on it."""
    area = _area(boxes[..., :2], boxes[..., 2:])[..., None, None]  # (batch, c, 1, 1)
    owner = torch.where(inside, area, torch.inf).argmin(1, keepdim=True)
    return inside & torch.zeros_like(inside).scatter(1, owner, True)


def _box_loss(predicted: torch.Tensor, inside: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    batch, classes, _, _ = inside.nonzero(as_tuple=True)
    if not len(batch):
        return predicted.sum() * 0
    cells = inside.sum((2, 3)).clamp(min=1)[batch, classes]  # each object counts the same
    distance = box_distance(predicted[inside], boxes[batch, classes])
    return (distance / cells).sum() / (1 / cells).sum()


def box_distance(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 plus 1 - generalised IoU of (n, 4) boxes; (n,), 0 where they are equal."""
    return (predicted - wanted).abs().sum(-1) + 1 - _generalised_iou(predicted, wanted)


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
