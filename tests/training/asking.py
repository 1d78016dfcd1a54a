"""Test sets for predictions: a released folder of drawn pictures, and a model that knows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bird_training.evaluation.answering import Answer
from bird_training.evaluation.questions import Question
from bird_vlm.grammar import format_absent, format_present
from bird_vlm.prompts import grounding_prompt, referring_prompt

BOX = (100, 150, 700, 800)


def write_test_set(out: Path, pictures: int, facts: bool = False) -> Path:
    """OUT/test with five questions about each of so many pictures; returns OUT/test."""
    (out / "images").mkdir(parents=True)
    (out / "test").mkdir()
    grey = np.random.default_rng(0)
    records: dict[str, list] = {"VG": [], "ROC": [], "RC": [], "MIA": []}
    known = []
    for number in range(pictures):
        name = f"{('ct', 'mr')[number % 2]}_00--A--p{number // 2}--z_{number:03d}"
        image = f"images/{name}.png"
        pixels = grey.integers(0, 255, (40, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(out / image)
        for task, question, answer in (
            ("VG", grounding_prompt("liver"), format_present("liver", (BOX,))),
            ("VG", grounding_prompt("heart"), format_absent("heart")),
            ("ROC", referring_prompt("roc", BOX), "liver"),
            ("RC", referring_prompt("rc", BOX), "The region shows the liver."),
            ("MIA", "What kind of image is this?", "This is a CT image of the abdomen."),
        ):
            asked = f"Picture 1: <img>{image}</img>\n{question}"
            records[task].append({"id": name, "image": image, "conversations": [[asked, answer]]})
        known.append({"id": name, "dataset": "A", "case": f"p{number // 2}"})
    for task, of_task in records.items():
        (out / "test" / f"{task}.json").write_text(json.dumps(of_task))
    if facts:
        (out / "test" / "facts.jsonl").write_text("".join(f"{json.dumps(k)}\n" for k in known))
    return out / "test"


class Knowing:
    """Gives the annotation back with its place in the batch, and remembers what it was asked."""

    name, fingerprint = "knowing", "1"

    def __init__(self, batch: int = 10, stop_after: int | None = None) -> None:
        self.batch, self.stop_after = batch, stop_after
        self.asked: list[list[Question]] = []

    def answer(self, batches: Iterable[Sequence[Question]]) -> Iterator[list[Answer]]:
        for batch in batches:
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(list(batch))
            yield [
                Answer(f"{n}: {q.annotation}", 0.5 if q.task == "VG" else None)
                for n, q in enumerate(batch)
            ]


def files_of(folder: Path) -> dict[str, bytes]:
    """What the predictions of a folder are, byte by byte."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}
