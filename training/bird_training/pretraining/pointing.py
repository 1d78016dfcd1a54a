"""Teaches heads of the decoder to look at the object that they are about to speak of.

A small decoder needs long to find out by itself that the words of the question select a place in
the picture. Here one head in some layers is shown: before an answer about an object, its attention
over the image tokens is drawn towards the cells that the object's box covers. Knows nothing about
text; the shipped model has no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from bird_vlm.modeling_bird import BirdForConditionalGeneration

HEAD = 0


class Pointing:
    """Listens to a decoder's attention layers during one forward pass."""

    def __init__(self, bird: BirdForConditionalGeneration) -> None:
        # the first gathers the words, the last writes the answer
        layers = list(bird.model.language_model.layers)
        self.layers = [layer.self_attn for layer in layers[1:-1] or layers[-1:]]
        self.image_token_id = bird.config.image_token_id
        self.heard: dict[nn.Module, dict[str, Any]] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keeps what the layers get as long as the context lasts."""
        hooks = [
            layer.register_forward_pre_hook(self._hear, with_kwargs=True) for layer in self.layers
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def loss(
        self, input_ids: torch.Tensor, speaking: torch.Tensor, boxes: torch.Tensor
    ) -> torch.Tensor:
        """How far the attention is from the boxes, averaged over boxes and layers, in nats.

        `input_ids` and `speaking` are (batch, tokens); the n-th true place of `speaking`, in
        reading order, is about the n-th of `boxes` (n, 4), x0, y0, x1, y1 in 0..1. Every row has
        its image tokens in the same places.
        """
        if not len(boxes):
            return input_ids.new_zeros((), dtype=torch.float32)
        places = (input_ids[0] == self.image_token_id).nonzero()[:, 0]
        wanted = cover_of_cells(boxes, round(len(places) ** 0.5))
        losses = [self._layer_loss(layer, places, speaking, wanted) for layer in self.layers]
        return torch.stack(losses).mean()

    def _hear(self, layer: nn.Module, _: tuple, kwargs: dict[str, Any]) -> None:
        self.heard[layer] = kwargs

    def _layer_loss(
        self, layer: nn.Module, places: torch.Tensor, speaking: torch.Tensor, wanted: torch.Tensor
    ) -> torch.Tensor:
        hidden = self.heard[layer]["hidden_states"]
        start = HEAD * layer.head_dim
        query, key = (
            projection(hidden)[:, None, :, start : start + layer.head_dim]
            for projection in (layer.q_proj, layer.k_proj)
        )  # (batch, 1, tokens, head_dim)
        query, key = apply_rotary_pos_emb(query, key, *self.heard[layer]["position_embeddings"])
        rows = speaking.nonzero()[:, 0]
        logits = torch.einsum("nd,nkd->nk", query[:, 0][speaking], key[:, 0, places][rows])
        share = F.log_softmax(logits.float() * layer.scaling, dim=-1)
        return -(wanted * share).sum(1).mean()


def cover_of_cells(boxes: torch.Tensor, side: int) -> torch.Tensor:
    """(n, 4) boxes in 0..1 -> (n, side * side) shares of each box in each cell, row by row."""
    edges = torch.linspace(0, 1, side + 1, device=boxes.device)

    def overlap(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        top, bottom = torch.maximum(low, edges[:-1]), torch.minimum(high, edges[1:])
        return (bottom - top).clamp(min=0)  # (n, side)

    x = overlap(boxes[:, 0:1], boxes[:, 2:3])
    y = overlap(boxes[:, 1:2], boxes[:, 3:4])
    cover = (y[:, :, None] * x[:, None, :]).flatten(1)
    return cover / cover.sum(1, keepdim=True).clamp(min=1e-9)
