"""What the decoder remembers of pictures that it has read.

The keys and values of every layer for all that stands before a question: the picture itself and
the words around it. They do not depend on what is asked, so a picture is read once for many
questions. Knows tensors; knows nothing about words or volumes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from bird_vlm.modeling_bird import BirdForConditionalGeneration

Memory = torch.Tensor  # of one picture: (layers, 2, heads, tokens, head width)


@torch.inference_mode()
def read_pictures(
    network: BirdForConditionalGeneration, features: torch.Tensor, prefix: Sequence[int]
) -> list[Memory]:
    """Read pictures (pictures, image tokens, width); what is remembered of each.

    `prefix` are the tokens before a question, with the places of the image tokens.
    """
    cache = DynamicCache(config=network.config.get_text_config())
    network.model(
        input_ids=torch.tensor([prefix], device=network.device).repeat(len(features), 1),
        image_embeds=features,
        past_key_values=cache,
        use_cache=True,
    )
    layers = [torch.stack([layer.keys, layer.values], dim=1) for layer in cache.layers]
    return list(torch.stack(layers, dim=1).unbind())


def recalled(network: BirdForConditionalGeneration, memories: Sequence[Memory]) -> DynamicCache:
    """A cache with a row for each memory, to go on from."""
    cache = DynamicCache(config=network.config.get_text_config())
    for number, layer in enumerate(torch.stack(list(memories), dim=1)):
        cache.update(layer[:, 0].contiguous(), layer[:, 1].contiguous(), number)
    return cache
