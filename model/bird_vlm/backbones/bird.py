"""BiRD, and Qwen-VL in its layout: pictures are encoded once, read once, and asked many times.

Knows pictures, prompts and tokens; knows nothing about volumes, slices or RAS.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, ProcessorMixin
from transformers.generation import GenerateDecoderOnlyOutput

from bird_vlm.answers import PictureAnswer, TextAnswer
from bird_vlm.batches import in_batches
from bird_vlm.boxes import NORM_MAX, BoxNorm
from bird_vlm.confidence import geometric_mean, token_probabilities
from bird_vlm.contract import ReferringTask
from bird_vlm.grounding import Grounder
from bird_vlm.loading import load_network
from bird_vlm.model_card import ModelCard, read_labels
from bird_vlm.prompts import referring_prompt
from bird_vlm.running import USUAL, Running
from bird_vlm.tensor_cache import TensorCache
from bird_vlm.tokenization_bird import number_ids

_NEW_TOKENS = 100  # the longest answer, as in the paper's evaluation of MIA
_PICTURES_AT_ONCE = 16


class BirdEngine:
    """One network on one device, as `bird_vlm.engine.Engine`."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, card: ModelCard) -> None:
        self.model, self.processor, self.card = model.eval(), processor, card
        self.model.model.vision_tower.to(memory_format=torch.channels_last)  # a third faster
        self.tokenizer = processor.tokenizer
        self.number_ids = number_ids(self.tokenizer, NORM_MAX + 1)
        self.grounder = Grounder(model, processor)
        self.features = TensorCache()
        self.pictures_at_once = _PICTURES_AT_ONCE

    @classmethod
    def load(cls, folder: Path, running: Running = USUAL, name: str = "") -> BirdEngine:
        """Load a folder that `bird convert` or a training wrote; `name` is the card's, or its own.

        Raises CheckpointError where it holds no whole model, or there is no such device.
        """
        network, processor = load_network(folder, running)
        name = name or folder.resolve().name
        return cls(network, processor, ModelCard(name, read_labels(folder), str(network.device)))

    @property
    def device(self) -> torch.device:
        """Where features and answers are made."""
        return self.model.device

    @torch.inference_mode()
    def encode(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures (height, width[, 3]) uint8 -> features (pictures, image tokens, width)."""
        features: list[torch.Tensor] = []

        def encode(batch: slice) -> None:
            pixels = self._pixels(self.processor.image_processor(list(pictures[batch])))
            features.append(self.model.get_image_features(pixels))

        self.pictures_at_once = in_batches(len(pictures), self.pictures_at_once, encode)
        return torch.cat(features)

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
        return self.grounder.ground(features, labels, threshold, names)

    def refer(self, features: torch.Tensor, box_norm: BoxNorm, task: ReferringTask) -> TextAnswer:
        """Name (roc) or describe (rc) a box of one picture; features (1, tokens, width)."""
        return self.ask(features, referring_prompt(task, box_norm))

    def ask(self, features: torch.Tensor, question: str) -> TextAnswer:
        """Answer a free question about one picture; features (1, tokens, width)."""
        output = self._generate(features, [question])
        tokens, probabilities = self._answer_tokens(output)[0]
        return TextAnswer(self._text(tokens).strip(), geometric_mean(probabilities))

    def _pixels(self, inputs: dict) -> torch.Tensor:
        pixels = torch.as_tensor(np.stack(inputs["pixel_values"]))
        pixels = pixels.to(self.model.device, self.model.dtype)
        return pixels.contiguous(memory_format=torch.channels_last)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.inference_mode()
    def _generate(
        self,
        features: torch.Tensor,
        questions: Sequence[str],
        gate: LogitsProcessor | None = None,
    ) -> GenerateDecoderOnlyOutput:
        inputs = self._prompt(questions).to(self.model.device)
        return self.model.generate(
            **inputs,
            image_embeds=features,
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
            logits_processor=LogitsProcessorList([gate] if gate else []),
            output_logits=True,
            return_dict_in_generate=True,
        )

    def _prompt(self, questions: Sequence[str]) -> dict:
        self.processor.refuse_control_tokens(questions)
        prefix, after = self.processor.around_question()
        ids = [[*prefix, *self._ids(question + after)] for question in questions]
        return self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")

    def _answer_tokens(
        self, output: GenerateDecoderOnlyOutput
    ) -> list[tuple[list[int], list[float]]]:
        """Per sequence the answer's tokens, without its end, and their probabilities."""
        steps = len(output.logits)
        tokens = output.sequences[:, -steps:]
        logits = torch.stack(output.logits, dim=1)  # (batch, steps, vocabulary)
        chosen = token_probabilities(logits, tokens, self.number_ids)
        answers = []
        for row, probabilities in zip(tokens.tolist(), chosen.tolist(), strict=True):
            ends = [i for i, token in enumerate(row) if token in self._end_ids()]
            length = ends[0] if ends else steps
            answers.append((row[:length], probabilities[:length]))
        return answers

    def _end_ids(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return {self.tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [ends])}

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=False)
