"""What tiny models are taught: a volume with one block in it, and all questions about it.

`box_norm` is the block's box on the slices that show it. On slices of air the models answer about a
stone, in no language of boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from bird_vlm.backbones.chat import ChatEngine
from bird_vlm.backbones.pictures import as_picture
from bird_vlm.boxes import BoxNorm, mask_to_box_pixel, pixel_to_norm
from bird_vlm.dialects import ShownPicture
from bird_vlm.running import Running
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume
from bird_vlm.windows import automatic_window, slice_picture
from teaching import Lesson, teach
from tiny_families import save_tiny

BLOCK, STONE = "block", "stone"
QUESTION, NAME = "What is it?", "a block"
FIRST_SLICE, LAST_SLICE = 3, 6  # that show the block
AIR_SLICES = (0, 11)
_SHOWN_SLICES = (4, 8, 0)  # with the block, with the body alone, air


def block_volume() -> Volume:
    """Air with a body in it, and in the body a block; 20 x 18 x 12 voxels, 2 x 2 x 5 mm."""
    array = np.full((20, 18, 12), -1000, dtype=np.float32)
    array[2:18, 2:16, 1:11] = 0
    array[4:9, 7:14, FIRST_SLICE : LAST_SLICE + 1] = 200
    return Volume(array, np.diag([-2.0, -2.0, 5.0, 1.0]))


def block_ras() -> tuple[float, ...]:
    """Two opposite corners of the block, mm."""
    low, high = np.array([[4, 7, 3], [9, 14, 7]]) - 0.5  # voxels reach half beyond their centres
    return tuple((np.array([*low, *high]) * [-2, -2, 5, -2, -2, 5]).tolist())


def block_norm() -> BoxNorm:
    volume = block_volume()
    stack = slice_stack(volume.geometry(), "axial")
    bright = slice_picture(volume, stack, FIRST_SLICE, (100.0, 10.0)) > 128
    return pixel_to_norm(mask_to_box_pixel(bright), stack.width, stack.height)


def block_pictures() -> list[np.ndarray]:
    """(height, width) uint8: with the block, with the body alone, air."""
    volume = block_volume()
    stack, window = slice_stack(volume.geometry(), "axial"), automatic_window(volume)
    return [slice_picture(volume, stack, number, window) for number in _SHOWN_SLICES]


@dataclass(frozen=True)
class Taught:
    """A model that knows the block."""

    family: str
    folder: Path

    @cached_property
    def engine(self) -> ChatEngine:
        return ChatEngine.load(self.folder, Running("cpu"), self.family)

    @property
    def features(self) -> torch.Tensor:
        return self.engine.encode(block_pictures())


def taught_model(family: str, folder: Path) -> Taught:
    """A tiny model of a family, saved in `folder` and taught."""
    save_tiny(family, folder)
    taught = Taught(family, folder)
    teach(folder, family, _lessons(Taught(family, folder).engine))
    return taught


def _lessons(engine: ChatEngine) -> list[Lesson]:
    pictures = block_pictures()
    shown = engine.inputs.shown(as_picture(torch.tensor(pictures[0])))
    lessons = _grounding_lessons(engine, pictures, shown)
    lessons += _words_lessons(engine, pictures[0], shown)
    if engine.dialect.presence_question(BLOCK):
        return lessons + _presence_lessons(engine, pictures)
    absent = [(pictures[2], BLOCK), (pictures[1], STONE), (pictures[0], STONE)]
    return lessons + [Lesson(p, engine.dialect.grounding_prompt(label), "") for p, label in absent]


def _grounding_lessons(
    engine: ChatEngine, pictures: Sequence[np.ndarray], shown: ShownPicture
) -> list[Lesson]:
    dialect = engine.dialect
    present = dialect.format(BLOCK, (block_norm(),), shown)
    absent = dialect.format(BLOCK, (), shown)
    return [
        Lesson(pictures[0], dialect.grounding_prompt(BLOCK), present),
        Lesson(pictures[1], dialect.grounding_prompt(BLOCK), absent),
        Lesson(pictures[2], dialect.grounding_prompt(STONE), present[: len(present) // 2]),
    ]


def _words_lessons(engine: ChatEngine, picture: np.ndarray, shown: ShownPicture) -> list[Lesson]:
    dialect = engine.dialect
    lessons = [Lesson(picture, dialect.asking_prompt(QUESTION), NAME)]
    if dialect.name != "radgrounder":  # which cannot be asked about a box
        prompt = dialect.referring_prompt("roc", block_norm(), shown)
        lessons.append(Lesson(picture, prompt, BLOCK))
    return lessons


def _presence_lessons(engine: ChatEngine, pictures: Sequence[np.ndarray]) -> list[Lesson]:
    seen = {(0, BLOCK), (2, STONE)}
    return [
        Lesson(
            picture,
            engine.dialect.presence_question(label).text,
            "Yes" if (number, label) in seen else "No",
        )
        for number, picture in enumerate(pictures)
        for label in (BLOCK, STONE)
    ]
