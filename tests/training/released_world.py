"""Released Med-GRIT files for tests, and a toy model folder that can be trained on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.processing_bird import BirdProcessor
from bird_vlm.tokenization_bird import train_small_tokenizer
from small_world import TINY_QUERIES, TINY_SIZE, a_tiny_bird

LABELS = ("liver", "spleen", "left kidney")


def where(label: str) -> str:
    return f"Where is the <ref>{label}</ref> located in this image?"


def there(label: str, number: int) -> str:
    corner = 100 + 7 * number
    return (
        f"<ref>{label}</ref> is located at the coordinates "
        f"<box>({corner},{corner + 20}),({corner + 300},{corner + 411})</box>."
    )


def a_record(number: int, *pairs: tuple[str, str], **fields) -> dict:
    """As `medgrit build` writes one: the picture in the first question."""
    name = f"ct_case{number:02d}_z_{number}"
    image = f"images/{name}.png"
    (question, answer), *rest = pairs
    first = [f"Picture 1: <img>{image}</img>\n{question}", answer]
    conversations = [first, *map(list, rest)]
    return {"id": name, "image": image, "conversations": conversations} | fields


def write_released(out: Path, pictures: int) -> Path:
    """OUT/train with VG, ROC and MIA files about so many pictures; returns OUT/train."""
    (out / "images").mkdir(parents=True)
    (out / "train").mkdir()
    grey = np.random.default_rng(0)
    vg, roc, mia = [], [], []
    for number in range(pictures):
        pixels = grey.integers(0, 255, (40, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(out / f"images/ct_case{number:02d}_z_{number}.png")
        label = LABELS[number % len(LABELS)]
        vg.append(a_record(number, (where(label), there(label, number))))
        vg.append(a_record(number, (where("heart"), "The heart is not present in the image.")))
        area = "What is in the area <box>(10,20),(345,678)</box>?"
        roc.append(a_record(number, (area, label)))
        talk = (("What kind of image is this?", "A CT image."), (where(label), there(label, 0)))
        mia.append(a_record(number, *talk, ("And what else?", f"Nothing but the {label}.")))
    for task, records in (("VG", vg), ("ROC", roc), ("MIA", mia)):
        (out / "train" / f"{task}.json").write_text(json.dumps(records, indent=1))
    return out / "train"


def texts_of(train: Path) -> list[str]:
    return [
        text
        for path in sorted(train.glob("*.json"))
        for record in json.loads(path.read_text())
        for pair in record["conversations"]
        for text in pair
    ]


def write_tiny_model(folder: Path, texts: list[str]) -> Path:
    """A model folder of a few thousand random weights that knows three labels."""
    tokenizer = train_small_tokenizer(texts, vocab_size=400)
    size = {"height": TINY_SIZE, "width": TINY_SIZE}
    processor = BirdProcessor(BirdImageProcessor(size=size), tokenizer, TINY_QUERIES)
    torch.manual_seed(0)
    a_tiny_bird(tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "labels.json").write_text(json.dumps({"ct": ["liver"], "mr": ["edema"]}))
    return folder
