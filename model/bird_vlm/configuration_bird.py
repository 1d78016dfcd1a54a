"""What a BiRD model is made of: sizes of the vision tower and the decoder, and the image tokens.

Knows nothing about weights or pixels. The defaults are Qwen-VL-Chat's, which the full-size BiRD
shares; `bird-mini` is the same classes with other numbers.
"""

from math import isqrt

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.qwen2 import Qwen2Config

from bird_vlm.errors import CheckpointError

STEMS = ("patchify", "conv")
_QWEN_VL_TEXT = {"intermediate_size": 11008, "max_position_embeddings": 8192}


@strict
class BirdVisionConfig(PreTrainedConfig):
    """Sizes of the vision transformer and its resampler.

    `stem="patchify"` cuts the image into patches as a ViT does. `stem="conv"` uses one stride-2
    stage per entry of `stem_channels`, each with its number of `stem_blocks`, so `patch_size` must
    be `2 ** len(stem_channels)`.
    """

    model_type = "bird_vision"
    base_config_key = "vision_config"

    image_size: int = 448  # pixels, both sides
    patch_size: int = 14  # pixels per token of the grid, both sides
    in_channels: int = 3
    hidden_size: int = 1664
    num_hidden_layers: int = 48
    num_attention_heads: int = 16
    intermediate_size: int = 8192
    layer_norm_eps: float = 1e-6
    position_grid: int = 16  # side of the stored positional embedding, resized to the token grid
    stem: str = "patchify"
    stem_channels: list[int] | None = None
    stem_blocks: list[int] | None = None  # residual blocks of each stage; None = one each
    output_dim: int = 4096
    num_queries: int = 256  # image tokens that the decoder sees
    resampler_heads: int = 32
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs) -> None:
        super().__post_init__(**kwargs)
        self.stem_channels = list(self.stem_channels or [])
        self.stem_blocks = list(self.stem_blocks or [1] * len(self.stem_channels))
        self._check_grid()
        self._check_heads()

    @property
    def grid_size(self) -> int:
        """Tokens along one side of the grid that leaves the vision transformer."""
        return self.image_size // self.patch_size

    def _check_grid(self) -> None:
        if self.stem not in STEMS:
            raise CheckpointError(f"stem: must be one of {', '.join(STEMS)}, got {self.stem!r}")
        if self.image_size % self.patch_size:
            raise CheckpointError(
                f"image_size: must be a multiple of patch_size {self.patch_size}, "
                f"got {self.image_size}"
            )
        if self.stem == "conv" and 2 ** len(self.stem_channels) != self.patch_size:
            raise CheckpointError(
                f"stem_channels: {len(self.stem_channels)} stride-2 stages do not make "
                f"patch_size {self.patch_size}"
            )
        if len(self.stem_blocks) != len(self.stem_channels):
            raise CheckpointError(
                f"stem_blocks: must name {len(self.stem_channels)} stages as stem_channels does, "
                f"got {self.stem_blocks}"
            )
        if isqrt(self.num_queries) ** 2 != self.num_queries:
            raise CheckpointError(f"num_queries: must be a square, got {self.num_queries}")

    def _check_heads(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                f"num_attention_heads: {self.num_attention_heads} does not divide "
                f"hidden_size {self.hidden_size}"
            )
        if self.output_dim % self.resampler_heads or self.output_dim % 4:
            raise CheckpointError(
                f"output_dim: must be a multiple of 4 and of resampler_heads "
                f"{self.resampler_heads}, got {self.output_dim}"
            )


@strict
class BirdConfig(PreTrainedConfig):
    """A vision tower, a Qwen2 decoder, and the token ids that join them."""

    model_type = "bird"
    sub_configs = {"vision_config": BirdVisionConfig, "text_config": Qwen2Config}  # noqa: RUF012

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    image_token_id: int = 151859  # <imgpad>: replaced by one image feature each
    image_start_id: int = 151857  # <img>
    image_end_id: int = 151858  # </img>
    max_sequence: int = 2048  # tokens; the original changes its attention beyond that
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs) -> None:
        self.vision_config = _as_config(self.vision_config, BirdVisionConfig)
        self.text_config = _as_config(self.text_config or _QWEN_VL_TEXT, Qwen2Config)
        super().__post_init__(**kwargs)
        if self.vision_config.output_dim != self.text_config.hidden_size:
            raise CheckpointError(
                f"vision_config.output_dim: {self.vision_config.output_dim} must equal "
                f"text_config.hidden_size {self.text_config.hidden_size}"
            )


def _as_config(value, config_class: type[PreTrainedConfig]) -> PreTrainedConfig:
    return value if isinstance(value, PreTrainedConfig) else config_class(**(value or {}))


AutoConfig.register(BirdConfig.model_type, BirdConfig)

# The Auto classes find all of BiRD once its configuration is known (each module registers its own).
import bird_vlm.image_processing_bird  # noqa: E402
import bird_vlm.modeling_bird  # noqa: E402
import bird_vlm.processing_bird  # noqa: E402
import bird_vlm.tokenization_bird  # noqa: E402, F401
