"""Models that are asked about one picture at a time, in a chat or by a prompt.

Any image-text-to-text model of transformers, in the box dialect of its family: Qwen2.5-VL,
Qwen3-VL, Gemma 3 and MedGemma, PaliGemma 2 and RadGrounder. Knows pictures and words; knows nothing
about volumes, slices or RAS.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

from bird_vlm.answers import PictureAnswer, TextAnswer
from bird_vlm.backbones.chat_answer import picture_answer
from bird_vlm.backbones.chat_dialect import family_of, find_dialect
from bird_vlm.backbones.chat_inputs import ChatInputs
from bird_vlm.backbones.chat_presence import Presence
from bird_vlm.backbones.chat_processor import read_processor
from bird_vlm.backbones.chat_writer import Writer, Written
from bird_vlm.backbones.pictures import as_features, as_picture
from bird_vlm.batches import in_batches
from bird_vlm.boxes import BoxNorm
from bird_vlm.contract import ReferringTask
from bird_vlm.dialects import BoxDialect
from bird_vlm.dialects.json_objects import without_thoughts
from bird_vlm.errors import CheckpointError
from bird_vlm.loading import load_network
from bird_vlm.model_card import ModelCard, read_labels
from bird_vlm.running import USUAL, Running
from bird_vlm.tensor_cache import TensorCache

logger = logging.getLogger(__name__)

_BOX_TOKENS = 384  # an answer with boxes; a report with boxes in it is longer than a list of them
_WORD_TOKENS = 256
_QUESTIONS_AT_ONCE = 8

Asked = tuple[int, str]  # which picture, and the prompt


class ChatEngine:
    """One network on one device, as `bird_vlm.engine.Engine`."""

    def __init__(
        self,
        network: PreTrainedModel,
        processor: ProcessorMixin,
        dialect: BoxDialect,
        card: ModelCard,
    ) -> None:
        self.network, self.dialect, self.card = network, dialect, card
        tokenizer = processor.tokenizer
        number_ids = tokenizer.convert_tokens_to_ids(list(dialect.number_tokens))
        self.inputs = ChatInputs(processor)
        self.writer = Writer(network, tokenizer, number_ids)
        self.presence = Presence(dialect, tokenizer, number_ids, self.writer.end_ids)
        self.features = TensorCache()
        self.questions_at_once = _QUESTIONS_AT_ONCE

    @classmethod
    def load(cls, folder: Path, running: Running = USUAL, name: str = "") -> ChatEngine:
        """Load a folder that transformers wrote or the hub holds; `name` is the card's, or its own.

        Raises CheckpointError where it holds no whole model of a family that has a box dialect, or
        there is no such device.
        """
        name = name or folder.resolve().name
        family = family_of(folder)
        dialect, note = find_dialect(folder, name)
        if note:
            logger.warning(note)
        network, processor = load_network(folder, running, partial(read_processor, family=family))
        if processor.image_token_ids != [network.config.image_token_id]:
            raise CheckpointError(
                f"model: {folder} has a tokenizer that is not its network's; get both again"
            )
        card = ModelCard(name, read_labels(folder), str(network.device), note)
        return cls(network, processor, dialect, card)

    @property
    def device(self) -> torch.device:
        """Where answers are made."""
        return self.network.device

    def encode(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """The pictures themselves: (pictures, height, width[, 3]) uint8, in main memory."""
        return as_features(pictures)

    def ground(
        self,
        features: torch.Tensor,
        labels: Sequence[str],
        threshold: float = 0.5,
        names: Sequence[Hashable] | None = None,
    ) -> list[list[PictureAnswer]]:
        """Ask for every label on every picture; answers[picture][label].

        Whether it is there first, and where it is only if its presence probability is `threshold`
        or more. Nothing is remembered under `names`.
        """
        pictures = list(map(as_picture, features))
        if not (pictures and labels):
            return [[] for _ in pictures]
        prompts = {label: self.dialect.grounding_prompt(label) for label in labels}
        presence = self._presence(pictures, labels)
        present = [(row, label) for (row, label), share in presence.items() if share >= threshold]
        written = self._written(pictures, [(row, prompts[label]) for row, label in present])
        shown = self.inputs.shown(pictures[0])

        def answered(row: int, label: str) -> PictureAnswer:
            share = presence[row, label]
            if share < threshold:
                return PictureAnswer(share, "")
            answer = written[row, prompts[label]]
            return picture_answer(self.dialect, label, share, answer, shown)

        return [[answered(row, label) for label in labels] for row in range(len(pictures))]

    def refer(self, features: torch.Tensor, box_norm: BoxNorm, task: ReferringTask) -> TextAnswer:
        """Name (roc) or describe (rc) a box of one picture; features (1, height, width[, 3]).

        Raises BadRequestError for a model that cannot be asked about a box.
        """
        shown = self.inputs.shown(as_picture(features[0]))
        return self._words(features, self.dialect.referring_prompt(task, box_norm, shown))

    def ask(self, features: torch.Tensor, question: str) -> TextAnswer:
        """Answer a free question about one picture; features (1, height, width[, 3]).

        Raises GrammarError for a model that thinks aloud and does not come to an end.
        """
        return self._words(features, self.dialect.asking_prompt(question))

    def _presence(
        self, pictures: Sequence[Image], labels: Sequence[str]
    ) -> dict[tuple[int, str], float]:
        """Probability of each label on each picture, by row and label."""
        asked = list(dict.fromkeys(product(range(len(pictures)), labels)))
        presence: dict[tuple[int, str], float] = {}

        def ask(batch: slice) -> None:
            prompts = [(row, self.presence.prompt(label)) for row, label in asked[batch]]
            logits = self.writer.first_logits(self._inputs(pictures, prompts))
            for (row, label), of_row in zip(asked[batch], logits, strict=True):
                presence[row, label] = self.presence.of(of_row, label)

        self.questions_at_once = in_batches(len(asked), self.questions_at_once, ask)
        return presence

    def _written(self, pictures: Sequence[Image], asked: Sequence[Asked]) -> dict[Asked, Written]:
        """The answers with boxes; a prompt that serves several labels is asked once."""
        questions = list(dict.fromkeys(asked))
        written: dict[Asked, Written] = {}

        def write(batch: slice) -> None:
            inputs = self._inputs(pictures, questions[batch])
            answers = self.writer.write(inputs, _BOX_TOKENS)
            written.update(zip(questions[batch], answers, strict=True))

        self.questions_at_once = in_batches(len(questions), self.questions_at_once, write)
        return written

    def _inputs(self, pictures: Sequence[Image], asked: Sequence[Asked]) -> BatchFeature:
        return self.inputs.of([pictures[row] for row, _ in asked], [prompt for _, prompt in asked])

    def _words(self, features: torch.Tensor, prompt: str) -> TextAnswer:
        inputs = self.inputs.of([as_picture(features[0])], [prompt])
        [written] = self.writer.write(inputs, _WORD_TOKENS)
        return TextAnswer(without_thoughts(written.text).strip(), written.certainty)
