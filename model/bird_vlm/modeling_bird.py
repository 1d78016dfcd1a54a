"""The BiRD network: vision transformer, resampler and Qwen2 decoder, in transformers' conventions.

Knows nothing about files, prompts or boxes. The layers of the vision tower are `vision_bird.py`'s,
the decoder is transformers' own.
"""

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.qwen2 import Qwen2Model

from bird_vlm import vision_bird
from bird_vlm.configuration_bird import BirdConfig, BirdVisionConfig
from bird_vlm.errors import BadRequestError


class BirdPreTrainedModel(PreTrainedModel):
    """What all BiRD models share: initialisation and what transformers may do with them."""

    config: BirdConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ("BirdVisionBlock", "BirdResampler", "Qwen2DecoderLayer")
    _skip_keys_device_placement = ("past_key_values",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, vision_bird.BirdConvUnit):
            init.kaiming_normal_(module[0].weight, nonlinearity="relu")
        elif isinstance(module, vision_bird.BirdResampler):
            init.trunc_normal_(module.query, std=0.02)
            init.copy_(module.pos_embed, vision_bird.sincos_positions(*module.pos_embed.shape))
        elif isinstance(module, BirdVisionTransformer):
            init.normal_(module.positional_embedding, std=module.config.initializer_range)
            init.normal_(module.proj, std=module.config.output_dim**-0.5)


class BirdVisionTransformer(BirdPreTrainedModel):
    """Pixels -> grid of tokens (`encode_grid`) -> fixed number of image features (`pool_grid`)."""

    config: BirdVisionConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: BirdVisionConfig):
        super().__init__(config)
        width = config.hidden_size
        self.conv1 = vision_bird.stem_of(config)
        self.positional_embedding = nn.Parameter(torch.empty(config.position_grid**2, width))
        self.ln_pre = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.blocks = nn.ModuleList(
            vision_bird.BirdVisionBlock(config) for _ in range(config.num_hidden_layers)
        )
        self.attn_pool = vision_bird.BirdResampler(config)
        self.ln_post = nn.LayerNorm(config.output_dim, eps=config.layer_norm_eps)
        self.proj = nn.Parameter(torch.empty(config.output_dim, config.output_dim))
        self.post_init()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, channels, image_size, image_size) -> (batch, num_queries, output_dim)."""
        return self.pool_grid(self.encode_grid(pixel_values))

    def encode_grid(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pixels -> (batch, rows, columns, hidden_size), the input of the resampler."""
        self._check_pixels(pixel_values)
        grid = self.conv1(pixel_values.to(self.ln_pre.weight.dtype))
        tokens = grid.flatten(2).transpose(1, 2)  # (batch, tokens, hidden_size)
        side = self.config.grid_size
        tokens = self.ln_pre(tokens + vision_bird.resize_positions(self.positional_embedding, side))
        for block in self.blocks:
            tokens = block(tokens)
        return tokens.unflatten(1, (side, side))

    def pool_grid(self, grid: torch.Tensor) -> torch.Tensor:
        """(batch, rows, columns, hidden_size) -> (batch, num_queries, output_dim)."""
        return self.ln_post(self.attn_pool(grid.flatten(1, 2))) @ self.proj

    def _check_pixels(self, pixel_values: torch.Tensor) -> None:
        size = self.config.image_size
        wanted = (self.config.in_channels, size, size)
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != wanted:
            raise BadRequestError(
                f"pixel_values: shape must be (batch, {', '.join(map(str, wanted))}), "
                f"got {tuple(pixel_values.shape)}; use the model's processor"
            )


class BirdModel(BirdPreTrainedModel):
    """Vision tower and decoder, without the language-modelling head."""

    def __init__(self, config: BirdConfig):
        super().__init__(config)
        self.vision_tower = BirdVisionTransformer(config.vision_config)
        self.language_model = Qwen2Model(config.text_config)
        self.post_init()

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(images, channels, image_size, image_size) -> (images, num_queries, output_dim)."""
        return self.vision_tower(pixel_values)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | dict | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        image_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """See `BirdForConditionalGeneration.forward`."""
        if inputs_embeds is None:
            inputs_embeds = self.language_model.embed_tokens(input_ids)
        if use_cache is None:  # a cache would hide packed position_ids from the mask
            packed = position_ids is not None and attention_mask is None
            use_cache = past_key_values is not None or not (self.training or packed)
        self._check_length(inputs_embeds.shape[1], attention_mask, past_key_values)
        if pixel_values is not None and image_embeds is None:
            image_embeds = self.get_image_features(pixel_values)
        if image_embeds is not None:
            inputs_embeds = self._place_images(input_ids, inputs_embeds, image_embeds)
        return self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )

    def _place_images(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor,
        image_embeds: torch.Tensor,
    ) -> torch.Tensor:
        if input_ids is None:
            raise BadRequestError("input_ids: needed beside images, to find where they belong")
        places = input_ids == self.config.image_token_id  # (batch, tokens)
        features = image_embeds.to(inputs_embeds).flatten(0, -2)
        if not places.is_meta and (found := int(places.sum())) != len(features):
            raise BadRequestError(
                f"input_ids: {found} image tokens for {len(features)} image features of "
                f"{image_embeds.shape[0]} images; build the prompt with the model's processor"
            )
        return inputs_embeds.masked_scatter(places.unsqueeze(-1), features)

    def _check_length(
        self, length: int, attention_mask: torch.Tensor | dict | None, cache: Cache | None
    ) -> None:
        if isinstance(attention_mask, torch.Tensor):
            length = attention_mask.shape[-1]
        elif cache is not None and not torch.compiler.is_compiling():
            length = length + int(cache.get_seq_length())
        _refuse_long(length, self.config.max_sequence)


class BirdForConditionalGeneration(BirdPreTrainedModel, GenerationMixin):
    """BiRD with its language-modelling head: images and text in, text out."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: BirdConfig):
        super().__init__(config)
        self.model = BirdModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(images, channels, image_size, image_size) -> (images, num_queries, output_dim)."""
        return self.model.get_image_features(pixel_values)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | dict | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        image_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """One pass through decoder and head.

        Args:
            input_ids: (batch, tokens); each image takes `num_queries` tokens `image_token_id`.
            attention_mask: (batch, past + tokens) of 0/1, or an additive or boolean 4D mask, or
                None. With None and `position_ids` that restart at 0, every restart begins a
                sequence of its own that sees none of the others (packing).
            pixel_values: (images, channels, image_size, image_size), in reading order.
            image_embeds: (images, num_queries, output_dim) in place of `pixel_values`.
            labels: (batch, tokens), -100 where no loss is wanted.
            logits_to_keep: compute logits of the last so many tokens only (0: all), or of these
                token indices.

        Raises:
            BadRequestError: more than `max_sequence` tokens, or image tokens that do not match the
                images.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            image_embeds=image_embeds,
            use_cache=False if use_cache is None and labels is not None else use_cache,
            **kwargs,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.text_config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(
        self, input_ids, is_first_iteration=False, image_embeds=None, **kwargs
    ) -> dict:
        """Inputs of the next step; images go in with the prompt only."""
        _refuse_long(input_ids.shape[1], self.config.max_sequence)
        inputs = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs["image_embeds"] = image_embeds
        return inputs


def _refuse_long(length: int, limit: int) -> None:
    if length > limit:
        raise BadRequestError(
            f"input_ids: {length} tokens are more than this model's {limit}; shorten the question"
        )


AutoModelForImageTextToText.register(BirdConfig, BirdForConditionalGeneration)
