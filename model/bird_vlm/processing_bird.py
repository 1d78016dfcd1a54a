"""Chats with pictures to model inputs: ChatML as Qwen-VL writes it, image tokens put in place.

Knows nothing about tasks or boxes (see `prompts.py`) and nothing about weights. Text between the
`generation` marks of the template is the assistant's answer and its end token: what is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from transformers import AutoProcessor, ProcessorMixin

from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import BadRequestError

if TYPE_CHECKING:
    from bird_vlm.image_processing_bird import BirdImageProcessor
    from bird_vlm.tokenization_bird import BirdTokenizer

_PLACEHOLDER = "question"
CHAT_TEMPLATE = """\
{%- set count = namespace(pictures=0) -%}
{%- if messages[0].role != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- set body -%}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{%- set count.pictures = count.pictures + 1 -%}
{{- 'Picture ' ~ count.pictures ~ ': <img><imgpad></img>\\n' -}}
{%- elif part.type == 'text' -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endset -%}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{- body + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- body + '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


class BirdProcessor(ProcessorMixin):
    """Image processor and tokenizer under one roof.

    Args:
        image_processor: makes the pixel values.
        tokenizer: makes the ids.
        num_image_tokens: what one picture takes in the text, the model's `num_queries`.
        chat_template: another Jinja template than Qwen-VL's.
    """

    def __init__(
        self,
        image_processor: BirdImageProcessor,
        tokenizer: BirdTokenizer,
        num_image_tokens: int = 256,
        chat_template: str | None = None,
    ):
        self.num_image_tokens = num_image_tokens
        self.image_token = "<imgpad>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """What the one image token of picture `image_idx` becomes in the text."""
        return self.image_token * self.num_image_tokens

    def around_question(self) -> tuple[list[int], str]:
        """The tokens before a question about a picture, and the text between it and its answer."""
        content = [{"type": "image"}, {"type": "text", "text": _PLACEHOLDER}]
        chat = self.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        before, after = chat.split(_PLACEHOLDER)
        before = before.replace(self.image_token, self.image_token * self.num_image_tokens)
        return self.tokenizer(before, add_special_tokens=False)["input_ids"], after

    def refuse_control_tokens(self, texts: Sequence[str]) -> None:
        """Raises BadRequestError where a text of a user holds a token such as <|im_end|>."""
        for token in self._control_tokens:
            if any(token in text for text in texts):
                raise BadRequestError(
                    f"question: the control token {token} is refused; leave it out"
                )

    @cached_property
    def _control_tokens(self) -> list[str]:
        added = self.tokenizer.added_tokens_decoder.values()  # slow where numbers are tokens
        return [str(token) for token in added if token.special]

    def apply_chat_template(
        self,
        conversation,
        *args,
        sanitize_control_tokens: bool | None = None,
        tokenize: bool = False,
        return_assistant_tokens_mask: bool = False,
        **kwargs,
    ):
        """As in transformers, but control tokens typed by a user are text unless told otherwise.

        `<|im_start|>`, `<imgpad>` and the like inside a message are spelled out whenever the
        result is tokenised for asking; for training (`return_assistant_tokens_mask=True`)
        transformers cannot do both, and records are checked where they are made.
        """
        if sanitize_control_tokens is None:
            sanitize_control_tokens = tokenize and not return_assistant_tokens_mask
        return super().apply_chat_template(
            conversation,
            *args,
            sanitize_control_tokens=sanitize_control_tokens,
            tokenize=tokenize,
            return_assistant_tokens_mask=return_assistant_tokens_mask,
            **kwargs,
        )


AutoProcessor.register(BirdConfig, BirdProcessor)
