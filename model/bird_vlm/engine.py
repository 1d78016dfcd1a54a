"""What the product asks of a model, whichever it is, and how a model is found and loaded.

Knows pictures and words; knows nothing about volumes, slices or RAS, nor about any one model.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from bird_vlm.answers import PictureAnswer, TextAnswer
from bird_vlm.backbones import BACKBONES
from bird_vlm.boxes import BoxNorm
from bird_vlm.catalogue.cards import BY_CONVERSION, MODEL_TYPES
from bird_vlm.catalogue.names import find_source, model_config, model_path
from bird_vlm.contract import ReferringTask
from bird_vlm.errors import CheckpointError
from bird_vlm.model_card import ModelCard
from bird_vlm.running import USUAL, Running
from bird_vlm.tensor_cache import TensorCache

DEFAULT_MODEL = "bird-mini"


class Engine(Protocol):
    """A model that is ready to answer, called by one thread at a time.

    What is made of a picture once, whatever is asked about it, is a tensor: `encode` makes it,
    `features` keeps it. A model that cannot be split so gives the picture itself.
    """

    card: ModelCard
    features: TensorCache

    @property
    def device(self) -> torch.device:
        """Where features and answers are made."""

    def encode(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures (height, width[, 3]) uint8 of one size -> features (pictures, ...)."""

    def ground(
        self,
        features: torch.Tensor,
        labels: Sequence[str],
        threshold: float = 0.5,
        names: Sequence[Hashable] | None = None,
    ) -> list[list[PictureAnswer]]:
        """Ask for every label on every picture; answers[picture][label].

        An object whose presence probability is below `threshold` is absent and gets no boxes. Under
        `names` the model may remember the pictures until the next question.
        """

    def refer(self, features: torch.Tensor, box_norm: BoxNorm, task: ReferringTask) -> TextAnswer:
        """Name (roc) or describe (rc) a box of one picture; features (1, ...)."""

    def ask(self, features: torch.Tensor, question: str) -> TextAnswer:
        """Answer a free question about one picture; features (1, ...)."""


def load_engine(
    model: str | Path = DEFAULT_MODEL,
    running: Running = USUAL,
) -> Engine:
    """The model of a shipped name, a folder, a name of `bird models` or a hub id, ready to answer.

    With `running.backend` it is a name of that server, and nothing is loaded here. Raises
    CheckpointError where there is no such model, device or server, or no code that runs it.
    """
    if running.backend:
        from bird_vlm.backbones.endpoint import EndpointEngine

        return EndpointEngine.open(str(model), running.backend)
    folder = model_path(model)
    source = find_source(model)
    name = source.card.name if source.card else source.id or folder.resolve().name
    module, _, made = _backbone(folder).partition(":")
    backbone = getattr(import_module(f"bird_vlm.backbones.{module}"), made)
    return backbone.load(folder, running, name)


def _backbone(folder: Path) -> str:
    kind = model_config(folder).get("model_type")
    family = MODEL_TYPES.get(str(kind))
    if family not in BACKBONES:
        advice = (
            f"turn this original checkpoint into ours: bird convert {folder} DST"
            if family in BY_CONVERSION
            else f"run are {', '.join(_kinds())}; `bird models` lists such models"
        )
        raise CheckpointError(f"model: {folder} holds a {kind!r} model; {advice}")
    return BACKBONES[family]


def _kinds() -> list[str]:
    return [kind for kind, family in MODEL_TYPES.items() if family in BACKBONES]
