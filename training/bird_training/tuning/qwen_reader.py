"""How Qwen2.5-VL and Qwen3-VL read: pictures at their own size, positions in a plane.

A picture is resized to whole patches and takes as many tokens as it then has squares of patches.
Text is numbered; a picture's tokens are numbered by time, row and column, and what follows goes on
behind the larger of its sides (Qwen2.5-VL technical report, arXiv 2502.13923, section 2.1).
Knows nothing about networks, packing or recipes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedConfig, ProcessorMixin
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from bird_training.conversations import Conversation
from bird_training.sources.reading import read_slice_picture
from bird_training.tuning.chat_spans import chat_and_answers
from bird_training.tuning.reader import Written
from bird_training.tuning.rewording import reworded
from bird_vlm.dialects import ShownPicture
from bird_vlm.dialects.json_boxes import JsonBoxes
from bird_vlm.errors import BirdError

_WITH_HEADERS = (".png", ".jpg", ".jpeg")  # whose size is known without reading the pixels
_SIZED_BY = ("preprocessor_config.json", "processor_config.json")
_NOT_TAKEN_ALONG = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".md", ".index.json")


class QwenReader:
    """A Reader of a Qwen2.5-VL or Qwen3-VL folder and its processor.

    With `picture_tokens` larger pictures are shrunk to that many; the result does so too.
    """

    def __init__(
        self,
        folder: Path,
        processor: ProcessorMixin,
        config: PreTrainedConfig,
        dialect: JsonBoxes,
        picture_tokens: int | None = None,
    ) -> None:
        self.folder, self.dialect = folder, dialect
        self.tokenizer, self.template = processor.tokenizer, processor.chat_template
        self.image_processor = processor.image_processor
        self.side = self.image_processor.patch_size * self.image_processor.merge_size  # of a token
        self.shrunk = picture_tokens is not None
        if picture_tokens:
            self.image_processor.size = self._at_most(picture_tokens)
        self.image_token_id = config.image_token_id
        self.pad_id = self.tokenizer.convert_tokens_to_ids("<|endoftext|>")
        self.longest = config.text_config.max_position_embeddings
        added = self.tokenizer.added_tokens_decoder.values()
        self.control = tuple(str(token) for token in added if token.special)
        self._sizes: dict[Path, ShownPicture] = {}

    def shown(self, path: Path) -> ShownPicture:
        """Both sizes of a picture. Raises BirdError where it is unreadable or too long."""
        if path not in self._sizes:
            self._sizes[path] = self._resized(path)
        return self._sizes[path]

    def reworded(self, conversation: Conversation) -> list[Conversation]:
        """In this family's dialect. Raises BirdError, with the record."""
        return reworded(
            conversation, self.dialect, [self.shown(path) for path in conversation.pictures]
        )

    def write(self, conversations: Sequence[Conversation]) -> list[Written]:
        """By the model's chat template. Raises BirdError where it changes answers."""
        chats = [chat_and_answers(talk.messages(), self._render) for talk in conversations]
        tokens = self.tokenizer(
            [chat for chat, _ in chats], add_special_tokens=False, return_offsets_mapping=True
        )
        return [
            (np.array(ids, np.int32), _within(np.array(offsets)[:, 0], spans))
            for ids, offsets, (_, spans) in zip(
                tokens["input_ids"], tokens["offset_mapping"], chats, strict=True
            )
        ]

    def picture_tokens(self, path: Path) -> int:
        """As many as the picture has squares of patches after resizing."""
        rows, columns = self._grid(path)
        return rows * columns

    def pixels(self, pictures: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """`pixel_values` (patches, values) and `image_grid_thw` (pictures, 3), in patches."""
        colour = [Image.fromarray(picture).convert("RGB") for picture in pictures]
        inputs = self.image_processor(colour, return_tensors="pt")
        return {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}

    def positions(self, ids: Sequence[int], pictures: Sequence[Path]) -> np.ndarray:
        """(time, row, column) x tokens, as the network itself numbers a conversation."""
        is_image = np.asarray(ids) == self.image_token_id
        grids = map(self._grid, pictures)
        spans, start, number = [], 0, 0
        while start < len(ids):
            if is_image[start]:
                rows, columns = next(grids)
                row, column = np.divmod(np.arange(rows * columns), columns)
                span, steps = np.stack([np.zeros_like(row), row, column]), max(rows, columns)
            else:
                ahead = is_image[start:]
                steps = int(ahead.argmax()) if ahead.any() else len(ahead)
                span = np.tile(np.arange(steps), (3, 1))
            spans.append(span + number)
            start, number = start + span.shape[1], number + steps
        return np.concatenate(spans, axis=1)

    def save(self, folder: Path) -> None:
        """The start's own files, as they are but for the size of pictures."""
        for path in self.folder.iterdir():
            taken = not path.name.endswith(_NOT_TAKEN_ALONG) and path.name != "config.json"
            if path.is_file() and taken and not (folder / path.name).exists():
                shutil.copyfile(path, folder / path.name)
        if self.shrunk:
            for path in (folder / name for name in _SIZED_BY if (folder / name).is_file()):
                self._write_size(path)

    def _render(self, messages: Sequence[dict], asking: bool) -> str:
        parts = [
            {**message, "content": [{"type": "text", "text": message["content"]}]}
            if isinstance(message["content"], str)
            else message
            for message in messages
        ]
        return self.tokenizer.apply_chat_template(
            parts,
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=asking,
        )

    def _grid(self, path: Path) -> tuple[int, int]:
        """Rows and columns of a picture's tokens."""
        shown = self.shown(path)
        return shown.input_height // self.side, shown.input_width // self.side

    def _resized(self, path: Path) -> ShownPicture:
        width, height = picture_size(path)
        size = self.image_processor.size
        least, most = size["shortest_edge"], size["longest_edge"]
        try:
            rows, columns = smart_resize(height, width, self.side, least, most)
        except ValueError as error:
            raise BirdError(f"{path}: cannot be shown to this model ({error}); crop it") from error
        return ShownPicture(width, height, input_width=columns, input_height=rows)

    def _at_most(self, tokens: int) -> dict[str, int]:
        size = self.image_processor.size
        most = min(size["longest_edge"], tokens * self.side**2)
        return {"shortest_edge": min(size["shortest_edge"], most), "longest_edge": most}

    def _write_size(self, path: Path) -> None:
        settings = json.loads(path.read_text(encoding="utf-8"))
        own = settings.get("image_processor", settings)
        for name in ("min_pixels", "max_pixels"):
            own.pop(name, None)
        edges = ("shortest_edge", "longest_edge")
        own["size"] = {edge: self.image_processor.size[edge] for edge in edges}
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of the picture in a file, in pixels. Raises BadVolumeError."""
    if path.suffix.lower() in _WITH_HEADERS:
        with suppress(OSError), Image.open(path) as image:  # else the reader tells what is wrong
            return image.size
    height, width = read_slice_picture(path).shape[:2]
    return width, height


def _within(starts: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Which characters lie in one of the spans."""
    return np.logical_or.reduce([(starts >= first) & (starts < end) for first, end in spans])
