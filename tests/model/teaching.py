"""Trains tiny models, in some seconds, to give the answers of some lessons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from bird_vlm.backbones.chat import ChatEngine
from bird_vlm.running import Running

_LEARNT = 0.2  # a token's loss, at which greedy writing is sure to take it


@dataclass(frozen=True)
class Lesson:
    """What a model is to answer to a prompt about a picture."""

    picture: np.ndarray  # (height, width) uint8
    prompt: str
    answer: str  # "" for nothing but the end


def teach(folder: Path, name: str, lessons: Sequence[Lesson], steps: int = 300) -> None:
    """Train the model in `folder` until it gives the answers of all lessons; the weights change."""
    engine = ChatEngine.load(folder, Running("cpu"), name)
    batch = _lesson_batch(engine, lessons)
    network = engine.network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.0)
    answered = batch["labels"][:, 1:] != -100
    for _ in range(steps):
        losses = _losses(network(**batch).logits, batch["labels"])  # (lessons, tokens)
        if losses.max() < _LEARNT:
            break
        optimizer.zero_grad()
        (losses.sum(1) / answered.sum(1)).mean().backward()  # "Yes" weighs as much as a box
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    assert losses.max() < _LEARNT, f"{losses.max(1).values.tolist()} after {steps} steps"
    network.eval().save_pretrained(folder)


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(lessons, tokens) 0 where nothing is answered."""
    return cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")


def _lesson_batch(engine: ChatEngine, lessons: Sequence[Lesson]) -> dict[str, torch.Tensor]:
    """Prompts padded on the left, answers with their ends on the right; labels on answers only."""
    pictures = [Image.fromarray(lesson.picture).convert("RGB") for lesson in lessons]
    inputs = dict(engine.inputs.of(pictures, [lesson.prompt for lesson in lessons]))
    tokenizer, end = engine.writer.tokenizer, engine.writer.end_ids[0]
    answers = [
        [*tokenizer(lesson.answer, add_special_tokens=False)["input_ids"], end]
        for lesson in lessons
    ]
    longest = max(map(len, answers))
    ids = torch.tensor([row + [end] * (longest - len(row)) for row in answers])
    used = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in answers])
    prompt_ids = inputs["input_ids"]
    inputs["labels"] = torch.cat(
        [torch.full_like(prompt_ids, -100), ids.masked_fill(used == 0, -100)], 1
    )
    inputs["input_ids"] = torch.cat([prompt_ids, ids], 1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], used], 1)
    paligemma = engine.network.config.model_type == "paligemma"
    for name in {"mm_token_type_ids", "token_type_ids"} & set(inputs):
        inputs[name] = torch.cat([inputs[name], torch.full_like(ids, int(paligemma))], 1)
    return inputs
