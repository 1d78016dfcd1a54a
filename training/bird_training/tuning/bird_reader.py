"""How BiRD reads: pictures of one size and one number of tokens, in the data's own language.

Knows nothing about networks, packing or recipes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bird_training.conversations import Conversation
from bird_training.tuning.reader import Written
from bird_vlm.processing_bird import BirdProcessor


class BirdReader:
    """A Reader of a BiRD model's processor; `longest` is its configuration's `max_sequence`."""

    def __init__(self, processor: BirdProcessor, longest: int) -> None:
        self.processor, self.longest = processor, longest
        self.image_token_id = processor.image_token_id
        self.pad_id = processor.tokenizer.pad_token_id
        added = processor.tokenizer.added_tokens_decoder.values()
        self.control = tuple(str(token) for token in added if token.special)

    def reworded(self, conversation: Conversation) -> list[Conversation]:
        """As it is: the data is written in BiRD's language."""
        return [conversation]

    def write(self, conversations: Sequence[Conversation]) -> list[Written]:
        """By the processor's chat template, which marks what the assistant says."""
        chats = self.processor.tokenizer.apply_chat_template(
            [conversation.messages() for conversation in conversations],
            chat_template=self.processor.chat_template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        pairs = zip(chats["input_ids"], chats["assistant_masks"], strict=True)
        return [(np.array(ids, np.int32), np.array(mask, bool)) for ids, mask in pairs]

    def picture_tokens(self, path: Path) -> int:
        """The same for all."""
        return self.processor.num_image_tokens

    def pixels(self, pictures: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """`pixel_values` (pictures, channels, size, size), as at inference."""
        values = self.processor.image_processor(list(pictures))["pixel_values"]
        return {"pixel_values": torch.as_tensor(np.stack(values))}

    def positions(self, ids: Sequence[int], pictures: Sequence[Path]) -> None:
        """None: tokens are numbered."""
        return

    def save(self, folder: Path) -> None:
        """The processor."""
        self.processor.save_pretrained(folder)
