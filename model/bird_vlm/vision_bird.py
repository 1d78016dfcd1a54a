"""The layers of BiRD's vision tower: stems, transformer blocks, resampler, positions.

Knows nothing about transformers' models, checkpoints or text (see `modeling_bird.py`). Parameter
names follow the original Qwen-VL.
"""

from math import gcd, isqrt

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from transformers.modeling_layers import GradientCheckpointingLayer

from bird_vlm.configuration_bird import BirdVisionConfig


class BirdConvUnit(nn.Sequential):
    """3x3 convolution, GroupNorm, GELU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(gcd(channels_out, 8), channels_out),
            nn.GELU(),
        )


class BirdConvBlock(nn.Module):
    """Two conv units with a skip connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.units = nn.Sequential(
            BirdConvUnit(channels, channels), BirdConvUnit(channels, channels)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.units(features)


class BirdConvStem(nn.Sequential):
    """Stride-2 stages of conv blocks, then a 1x1 projection to the transformer's width."""

    def __init__(self, config: BirdVisionConfig):
        stages, channels_in = [], config.in_channels
        for channels, blocks in zip(config.stem_channels, config.stem_blocks, strict=True):
            stages.append(BirdConvUnit(channels_in, channels, stride=2))
            stages.extend(BirdConvBlock(channels) for _ in range(blocks))
            channels_in = channels
        super().__init__(*stages, nn.Conv2d(channels_in, config.hidden_size, 1, bias=False))


def stem_of(config: BirdVisionConfig) -> nn.Module:
    """Pixels -> grid; a plain ViT's stem is one linear projection per patch."""
    if config.stem == "conv":
        return BirdConvStem(config)
    size = config.patch_size
    return nn.Conv2d(config.in_channels, config.hidden_size, size, stride=size, bias=False)


class BirdVisionAttention(nn.Module):
    """Self-attention whose packed projection is interleaved per head: rows are (heads, 3, dim)."""

    def __init__(self, config: BirdVisionConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.in_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        packed = self.in_proj(hidden).unflatten(-1, (self.num_heads, -1))
        packed = packed.transpose(1, 2)  # (batch, heads, tokens, 3 * dim)
        query, key, value = packed.chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class BirdVisionMLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, config: BirdVisionConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.hidden_size, config.intermediate_size)
        self.c_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.c_proj(F.gelu(self.c_fc(hidden)))


class BirdVisionBlock(GradientCheckpointingLayer):
    """A pre-norm transformer block."""

    def __init__(self, config: BirdVisionConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = BirdVisionAttention(config)
        self.ln_2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = BirdVisionMLP(config)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.attn(self.ln_1(hidden))
        return hidden + self.mlp(self.ln_2(hidden))


class BirdResampler(nn.Module):
    """Cross-attention from learned queries to the token grid.

    Positions are added to queries and keys, never to values. `pos_embed` is stored with the
    weights: the original's values are loaded, not computed again.
    """

    def __init__(self, config: BirdVisionConfig):
        super().__init__()
        width = config.output_dim
        self.query = nn.Parameter(torch.empty(config.num_queries, width))
        self.register_buffer("pos_embed", torch.empty(config.num_queries, width))
        self.kv_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.attn = nn.MultiheadAttention(width, config.resampler_heads, batch_first=True)
        self.ln_q = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.ln_kv = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, hidden_size) of a square grid -> (batch, num_queries, output_dim)."""
        value = self.ln_kv(self.kv_proj(tokens))
        key = value + resize_positions(self.pos_embed, isqrt(tokens.shape[1]))
        query = self.ln_q(self.query) + self.pos_embed
        query = query.expand(tokens.shape[0], -1, -1)
        return self.attn(query, key, value, need_weights=False)[0]


def resize_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """(grid * grid, width) -> (side * side, width), bicubic in float32 as the original does."""
    stored = isqrt(positions.shape[0])
    if stored == side:
        return positions
    square = positions.float().T.unflatten(1, (stored, stored)).unsqueeze(0)
    square = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
    return square.flatten(2).squeeze(0).T.to(positions.dtype)


def sincos_positions(count: int, width: int) -> torch.Tensor:
    """Fixed sine and cosine positions of a square grid: (count, width), half of it per axis."""
    side = isqrt(count)
    rate = 10000.0 ** -torch.linspace(0, 1, width // 4 + 1, device="cpu")[:-1]
    angle = torch.arange(side, device="cpu").float().outer(rate)  # (side, width / 4)
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # (side, width / 2)
    return torch.cat([axis.repeat(side, 1), axis.repeat_interleave(side, 0)], dim=1)
