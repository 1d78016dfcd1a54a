"""The processors of chat models: pictures and text to tensors, on every machine alike.

Pictures go through Pillow whether torchvision is there or not, in one piece. Knows nothing about
questions or weights.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoImageProcessor, AutoProcessor, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from bird_vlm.catalogue.cards import Family
from bird_vlm.errors import CheckpointError

_WITHOUT_CHAT: tuple[Family, ...] = ("paligemma",)


class QwenPictureProcessor(ProcessorMixin):
    """Qwen2.5-VL's and Qwen3-VL's processor without its part for videos.

    That part needs torchvision, and transformers makes no processor without it. What it makes of
    pictures and text is the same: an image token for every square of merged patches, and
    `mm_token_type_ids`, without which positions are silently wrong.

    Args:
        image_processor: makes the pixel values and the grid of patches.
        tokenizer: makes the ids.
        chat_template: the model's Jinja template.
    """

    return_mm_token_type_ids = True

    def __init__(
        self,
        image_processor: BaseImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
    ):
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """What the one image token of picture `image_idx` becomes in the text."""
        patches = int(image_inputs["image_grid_thw"][image_idx].prod())
        return self.image_token * (patches // self.image_processor.merge_size**2)


def read_processor(folder: Path, family: Family) -> ProcessorMixin:
    """The processor of a model folder; `chat_template` is None for families that do not chat.

    Raises CheckpointError where a family that chats has no template, OSError or ValueError where
    files are missing or broken.
    """
    made = QwenPictureProcessor if family.startswith("qwen") else AutoProcessor
    processor = made.from_pretrained(folder, local_files_only=True)
    processor.image_processor = AutoImageProcessor.from_pretrained(
        folder, backend="pil", local_files_only=True
    )
    if hasattr(processor.image_processor, "do_pan_and_scan"):
        processor.image_processor.do_pan_and_scan = False  # boxes are of the whole picture
    processor.chat_template = _template(processor, folder, family)
    return processor


def _template(processor: ProcessorMixin, folder: Path, family: Family) -> str | None:
    if family in _WITHOUT_CHAT:
        return None
    template = processor.chat_template or processor.tokenizer.chat_template
    if template is None:
        raise CheckpointError(
            f"model: {folder} has no chat template; copy chat_template.jinja of the model that it "
            "was made from into it"
        )
    return template
