"""Tiny tokenizers and chat templates of the families, in the ways of the real ones.

Digits are tokens of their own, as in all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers.models.gemma.tokenization_gemma import GemmaTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

_SENTENCES = [  # what merges are learnt from: without digits
    'Locate every "block" in this image. Report bbox coordinates in JSON format: "label"',
    'If there is none, answer with an empty list: Is there a "block" Answer yes or no.',
    "What is in the area of this image? The box is Answer with the name only. caption detect",
    "Describe the area in one or two sentences. Caption this image and detect keywords: Yes No",
    "Does the picture contain block? Answer: user assistant model answer",
] * 3
_QWEN_TOKENS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
]
_GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
_GEMMA_TURNS = ["<start_of_turn>", "<end_of_turn>"]
_GEMMA_MARKS = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}

_QWEN_CHAT = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
GEMMA_CHAT = """\
{{- bos_token -}}
{%- for message in messages -%}
<start_of_turn>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}<start_of_image>{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<end_of_turn>
{% endfor -%}
{%- if add_generation_prompt -%}<start_of_turn>model
{% endif -%}"""


def qwen_tokenizer() -> PreTrainedTokenizerBase:
    """Byte pairs; with the chat template."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocabulary, merges = _merges(learnt, sorted(pre_tokenizers.ByteLevel.alphabet()), 600)
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges, eos_token="<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": _QWEN_TOKENS})
    tokenizer.chat_template = _QWEN_CHAT
    return tokenizer


def gemma_tokenizer(turns: bool) -> PreTrainedTokenizerBase:
    """SentencePiece-like with bytes to fall back to; Gemma 3 has `turns`, PaliGemma has none."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    letters = sorted({chr(code) for code in range(33, 127)} | {"▁", "\n"})
    found, merges = _merges(learnt, letters, 500)
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    order = [*_GEMMA_TOKENS, *byte_tokens, *found]
    vocabulary = {token: place for place, token in enumerate(order)}
    if not turns:
        return GemmaTokenizer(vocab=vocabulary, merges=merges)
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, extra_special_tokens=_GEMMA_MARKS)
    tokenizer.add_special_tokens({"additional_special_tokens": _GEMMA_TURNS})
    return tokenizer


def _merges(learnt: Tokenizer, letters: Sequence[str], size: int) -> tuple[dict[str, int], list]:
    """The vocabulary and the merges of byte pairs of the sentences."""
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=list(letters), show_progress=False, max_token_length=12
    )
    learnt.train_from_iterator(_SENTENCES, trainer)
    model = json.loads(learnt.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]
