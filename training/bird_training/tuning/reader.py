"""What a model family must give to its training: how it reads conversations and pictures.

`bird_reader.py` and `qwen_reader.py` are the two that there are. Knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from bird_training.conversations import Conversation

Written = tuple[np.ndarray, np.ndarray]  # tokens (n,) int32, which of them are learnt (n,) bool


class Reader(Protocol):
    """Conversations and pictures as the inputs of one family's network."""

    image_token_id: int
    pad_id: int
    longest: int  # tokens of a sequence that the network takes
    control: tuple[str, ...]  # tokens that no text of the data may hold

    def reworded(self, conversation: Conversation) -> list[Conversation]:
        """The same facts as this family asks for them and writes them."""

    def write(self, conversations: Sequence[Conversation]) -> list[Written]:
        """Each conversation as its chat template writes it; a picture is one image token.

        Learnt are the answers and their end tokens.
        """

    def picture_tokens(self, path: Path) -> int:
        """Image tokens of a picture in a sequence. Raises BadVolumeError where it is unreadable."""

    def pixels(self, pictures: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Pictures uint8 (height, width[, 3]) -> arguments of the network's forward.

        Tensors of several rows are concatenated along their first axis.
        """

    def positions(self, ids: Sequence[int], pictures: Sequence[Path]) -> np.ndarray | None:
        """(axes, tokens) of a conversation read alone; None where a token's number is all.

        `ids` has each picture's image tokens, `pictures` are its files in reading order.
        """

    def save(self, folder: Path) -> None:
        """Write everything but weights and configuration that the result needs to be run."""
