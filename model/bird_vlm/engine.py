"""Asks the model about pictures: batches in, boxes with scores out.

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
from bird_vlm.boxes import NORM_MAX, BoxNorm
from bird_vlm.confidence import geometric_mean, token_probabilities
from bird_vlm.contract import ReferringTask
from bird_vlm.errors import CheckpointError
from bird_vlm.grounding import Grounder
from bird_vlm.loading import DEFAULT_MODEL, ModelCard, load_network, model_folder, read_labels
from bird_vlm.prompts import referring_prompt
from bird_vlm.tensor_cache import TensorCache
from bird_vlm.tokenization_bird import number_ids

_NEW_TOKENS = 100  # the longest answer, as in the paper's evaluation of MIA
_PICTURES_AT_ONCE = 16
_TOKENS_AT_ONCE = 8192


class Engine:
    """One model on one device."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, card: ModelCard) -> None:
        self.model, self.processor, self.card = model.eval(), processor, card
        self.tokenizer = processor.tokenizer
        self.number_ids = number_ids(self.tokenizer, NORM_MAX + 1)
        self.grounder = Grounder(model, processor, _TOKENS_AT_ONCE)
        self.features = TensorCache()

    @classmethod
    def load(cls, model: str | Path = DEFAULT_MODEL, device: str | None = None) -> Engine:
        """Load a shipped model by name, or any folder that `bird convert` or a training wrote.

        `device` is cpu or cuda; by default cuda (in bfloat16) where there is one. Raises
        CheckpointError where there is no such model or device.
        """
        folder = model_folder(model)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise CheckpointError(f"device: no CUDA device is available, got {device!r}; use cpu")
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        network, processor = load_network(folder, dtype)
        card = ModelCard(folder.resolve().name, read_labels(folder), device)
        return cls(network.to(device), processor, card)

    @property
    def device(self) -> torch.device:
        """Where features and answers are made."""
        return self.model.device

    @torch.inference_mode()
    def encode(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures (height, width[, 3]) uint8 -> features (pictures, image tokens, width)."""
        chunks = [
            self.processor.image_processor(list(pictures[i : i + _PICTURES_AT_ONCE]))
            for i in range(0, len(pictures), _PICTURES_AT_ONCE)
        ]
        return torch.cat([self.model.get_image_features(self._pixels(chunk)) for chunk in chunks])

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
        return pixels.to(self.model.device, self.model.dtype)

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
