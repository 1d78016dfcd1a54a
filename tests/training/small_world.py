"""Small data sets and models for the training's tests: drawn pictures, a few thousand weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from bird_training.records import ObjectRecord, PictureRecord
from bird_training.sources.sa_med2d import CLASSES_FILE, INDEX_FILE
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.tokenization_bird import BirdTokenizer

CLASSES = {
    "BTCV": {"liver": 0, "kidney_left": 1, "kidney_right": 2, "union_kidneys": 3},
    "BraTS2013": {"brain_tumor": 0, "edema": 1},
    "ISIC2018": {"skin_lesion": 0},
}
SIZE = (64, 48)  # width, height
TINY_SIZE, TINY_GRID, TINY_QUERIES = 32, 4, 16
BACKGROUND, OBJECT = 60, 230
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Drawn:
    """A picture with bright rectangles, each an instance of a class."""

    stem: str  # "<modality>--<dataset>--<case>--<axis>_<index>"
    objects: tuple[tuple[int, Box], ...] = ()  # class id and box in pixels
    suffix: str = ".png"
    colour: bool = False

    @property
    def image(self) -> str:
        return f"images/{self.stem}{self.suffix}"

    @property
    def masks(self) -> list[str]:
        seen: dict[int, int] = {}
        names = []
        for class_id, _ in self.objects:
            instance = seen[class_id] = seen.get(class_id, -1) + 1
            names.append(f"masks/{self.stem}--{class_id:04d}_{instance:03d}.png")
        return names

    def write(self, folder: Path) -> None:
        picture = np.full(SIZE[::-1], BACKGROUND, np.uint8)
        for name, (_, (x0, y0, x1, y1)) in zip(self.masks, self.objects, strict=True):
            mask = np.zeros(SIZE[::-1], np.uint8)
            mask[y0:y1, x0:x1] = 255
            picture[mask > 0] = OBJECT
            Image.fromarray(mask).save(folder / name)
        image = Image.fromarray(picture)
        image = image.convert("RGB") if self.colour else image
        image.save(folder / self.image, **({"quality": 98} if self.suffix == ".jpg" else {}))


ABDOMEN = Drawn(
    "ct_00--BTCV--p01--z_0001",
    ((0, (4, 10, 30, 34)), (1, (44, 20, 54, 32)), (2, (16, 36, 26, 46)), (3, (16, 20, 54, 46))),
    suffix=".jpg",
)
TWO_EDEMAS = Drawn(
    "mr_t1--BraTS2013--p02--z_0007",
    ((1, (6, 6, 16, 16)), (0, (40, 10, 56, 30)), (1, (20, 30, 30, 40))),
)
NOTHING = Drawn("mr_t1--BraTS2013--p03--z_0002")
A_LESION = Drawn("dermoscopy--ISIC2018--p04--2d_0000", ((0, (20, 12, 44, 36)),), colour=True)


def write_sa_med2d(folder: Path, pictures: list[Drawn], classes: dict = CLASSES) -> Path:
    """A folder in the SA-Med2D-20M layout that holds these pictures."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        picture.write(folder)
    index = {picture.image: picture.masks for picture in pictures}
    (folder / INDEX_FILE).write_text(json.dumps(index))
    (folder / CLASSES_FILE).write_text(json.dumps(classes))
    return folder


def many_pictures(cases: int) -> list[Drawn]:
    """`cases` patients of every data set, with the objects of the examples a little displaced."""
    return [
        replace(
            example,
            stem="--".join([*_parts(example)[:2], f"p{case:02d}", _parts(example)[3]]),
            objects=tuple((c, _displaced(box, case)) for c, box in example.objects),
        )
        for case in range(cases)
        for example in (ABDOMEN, TWO_EDEMAS, A_LESION)
    ]


def a_record(*labels: str, dataset: str = "BTCV", case: str = "p", **fields) -> PictureRecord:
    """A record without files, for what reads no pixels."""
    values = {
        "id": f"{dataset}-{case}-{'-'.join(labels)}",
        "image": Path("picture.png"),
        "modality": "ct",
        "objects": tuple(ObjectRecord(label, Path("mask.png")) for label in labels),
    }
    return PictureRecord(**(values | {"dataset": dataset, "case": case} | fields))


def a_tiny_bird(tokenizer: BirdTokenizer) -> BirdForConditionalGeneration:
    """The full code path, wide enough in its random values that answers differ."""
    vision = {
        "image_size": TINY_SIZE,
        "patch_size": TINY_SIZE // TINY_GRID,
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "position_grid": TINY_GRID,
        "output_dim": 32,
        "num_queries": TINY_QUERIES,
        "resampler_heads": 4,
        "initializer_range": 0.2,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    start, end, image = tokenizer.convert_tokens_to_ids(["<img>", "</img>", "<imgpad>"])
    model = BirdForConditionalGeneration(
        BirdConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=image,
            image_start_id=start,
            image_end_id=end,
        )
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _parts(picture: Drawn) -> list[str]:
    return picture.stem.split("--")


def _displaced(box: Box, by: int) -> Box:
    x0, y0, x1, y1 = box
    dx, dy = by % 4, by % 2
    return x0 + dx, y0 + dy, x1 + dx, y1 + dy
