"""One picture through a network's vision without a picture: for counting what it takes.

Qwen's towers work out from a picture's size which patches attend to which; on tensors without
contents they cannot, so it is worked out before and handed over. Knows nothing about data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.vision_utils import (
    get_vision_cu_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

Look = Callable[[PreTrainedModel], torch.Tensor]


def look_of(config: PreTrainedConfig, tokens: int) -> Look:
    """What turns a square picture of about `tokens` image tokens into features (n, width).

    To be made where tensors have contents, and called where they need not. BiRD's pictures all have
    one size.
    """
    looks = {"bird": _bird_look, "qwen2_5_vl": _qwen25_look, "qwen3_vl": _qwen3_look}
    return looks[config.model_type](config.vision_config, tokens)


def _bird_look(vision: PreTrainedConfig, tokens: int) -> Look:
    def look(network: PreTrainedModel) -> torch.Tensor:
        pixels = torch.empty(1, vision.in_channels, vision.image_size, vision.image_size)
        return network.get_image_features(pixels).flatten(0, 1)

    return look


def _qwen25_look(vision: PreTrainedConfig, tokens: int) -> Look:
    grid, shape, known = _square(vision, tokens)
    index, bounds = get_vision_window_index(
        grid, vision.spatial_merge_size, vision.window_size, vision.patch_size
    )
    known |= {"window_index": index, "cu_window_seqlens": bounds.numpy()}

    def look(network: PreTrainedModel) -> torch.Tensor:
        seen = network.model.visual(torch.empty(shape), grid_thw=None, **known)
        return seen.pooler_output

    return look


def _qwen3_look(vision: PreTrainedConfig, tokens: int) -> Look:
    grid, shape, known = _square(vision, tokens)
    indices, weights = get_vision_interpolation_indices_and_weights(
        grid,
        int(vision.num_position_embeddings**0.5),
        align_corners=True,
        spatial_merge_size=vision.spatial_merge_size,
    )
    known |= {"interp_indices": indices, "interp_weights": weights}

    def look(network: PreTrainedModel) -> torch.Tensor:
        seen = network.model.visual(torch.empty(shape), grid_thw=None, **known)
        return torch.cat([seen.pooler_output, *seen.deepstack_features])

    return look


def _square(
    vision: PreTrainedConfig, tokens: int
) -> tuple[torch.Tensor, tuple[int, int], dict[str, Any]]:
    """A picture's grid of patches (1, 3), its pixel values' shape, and what follows from these."""
    side = max(1, round(tokens**0.5)) * vision.spatial_merge_size
    grid = torch.tensor([[1, side, side]])
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    known = {
        "position_ids": get_vision_position_ids(grid, vision.spatial_merge_size),
        "cu_seqlens": get_vision_cu_seqlens(grid).numpy(),  # its differences are read as numbers
    }
    return grid, (side * side, values), known
