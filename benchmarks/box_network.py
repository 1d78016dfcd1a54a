"""The network of `box_regressor.py`: picture and class in, one box out.

Plain convolutions; the class scales and shifts their features. Knows nothing about training, files
or names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Residual(nn.Module):
    """Two convolutions; a class may scale and shift what is between them (FiLM)."""

    def __init__(self, width: int, condition: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm_after = nn.BatchNorm2d(width)
        self.film = nn.Linear(condition, 2 * width) if condition else None

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        inside = self.norm(self.first(x))
        if self.film is not None:
            scale, shift = self.film(condition)[..., None, None].chunk(2, dim=1)
            inside = inside * (1 + scale) + shift
        return F.silu(x + self.norm_after(self.second(F.silu(inside))))


class BoxRegressor(nn.Module):
    """Picture -> a grid of features -> per asked class one box.

    Each cell of the grid votes for the four sides, seen from its own centre; the box is the mean
    vote, weighted by a softmax over the cells.
    """

    def __init__(
        self, classes: int, widths: Sequence[int] = (32, 64, 128, 176), condition: int = 96
    ) -> None:
        super().__init__()
        first, *others = widths
        layers: list[nn.Module] = [_halving(3, first)]
        for width_in, width in zip(widths[:-1], others, strict=True):
            layers += [_halving(width_in, width), Residual(width)]
        self.trunk = nn.Sequential(*layers)  # (pictures, 3, s, s) -> (pictures, width, s/16, s/16)
        self.place = nn.Conv2d(2, widths[-1], 1)
        self.classes = nn.Embedding(classes, condition)
        self.asked = nn.ModuleList(Residual(widths[-1], condition) for _ in range(2))
        self.vote = nn.Conv2d(widths[-1], 5, 1)

    def forward(
        self, pictures: torch.Tensor, picture_of: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """Boxes (queries, 4) in 0..1, corners; query i asks picture `picture_of[i]` for a class.

        `pictures` is (n, 3, size, size) in 0..1.
        """
        x = self.trunk((pictures - 0.5) / 0.25)
        centres = _cell_centres(x.shape[-1], x.device)  # (2, g, g)
        x = (x + self.place(centres[None] - 0.5))[picture_of]
        condition = self.classes(classes)
        for block in self.asked:
            x = block(x, condition)
        score, sides = self.vote(x).float().flatten(2).split((1, 4), dim=1)
        votes = centres.flatten(1).repeat(2, 1) + sides  # (queries, 4, cells)
        return (votes * score.softmax(-1)).sum(-1)


def _halving(width_in: int, width: int) -> nn.Sequential:
    convolution = nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.SiLU())


def _cell_centres(side: int, device: torch.device) -> torch.Tensor:
    steps = (torch.arange(side, device=device) + 0.5) / side
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy"))
