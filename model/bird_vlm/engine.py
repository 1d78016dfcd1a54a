"""Asks the model about pictures: batches in, boxes with scores out.

Knows pictures, prompts and tokens; knows nothing about volumes, slices or RAS. The plain way:
every answer is decoded by transformers' `generate`, greedily, as in the paper's evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.generation import GenerateDecoderOnlyOutput
from transformers.utils.logging import disable_progress_bar

from bird_vlm.boxes import NORM_MAX, BoxNorm
from bird_vlm.confidence import geometric_mean, token_probabilities
from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.contract import ReferringTask
from bird_vlm.errors import BadRequestError, CheckpointError, GrammarError
from bird_vlm.grammar import BOX_END, BOX_START, REF_START, format_absent, parse_grounding
from bird_vlm.prompts import grounding_prompt, referring_prompt
from bird_vlm.tokenization_bird import number_ids

DEFAULT_MODEL = "bird-mini"
WEIGHTS = Path(__file__).parent / "weights"
LABELS_FILE = "labels.json"
_NEW_TOKENS = 100  # the longest answer, as in the paper's evaluation of MIA
_PICTURES_AT_ONCE = 16
_QUESTIONS_AT_ONCE = 32


@dataclass(frozen=True)
class ModelCard:
    """What a model says of itself."""

    id: str
    labels: dict[str, list[str]] = field(default_factory=dict)  # by modality; {} = any words
    device: str = "cpu"

    @property
    def known_labels(self) -> set[str]:
        return {label for labels in self.labels.values() for label in labels}


@dataclass(frozen=True)
class PictureAnswer:
    """Where one object is on one picture."""

    presence: float  # 0..1
    text: str  # what the model wrote; "" where the object was taken as absent
    boxes_norm: tuple[BoxNorm, ...] = ()
    scores: tuple[float, ...] = ()  # 0..1 per box: geometric mean over its tokens' probabilities
    unreadable: bool = False  # the text is not in the language of boxes


@dataclass(frozen=True)
class TextAnswer:
    """Words about one picture."""

    text: str
    score: float  # 0..1: geometric mean over the tokens' probabilities


class Engine:
    """One model on one device."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, card: ModelCard) -> None:
        self.model, self.processor, self.card = model.eval(), processor, card
        self.tokenizer = processor.tokenizer
        self.number_ids = number_ids(self.tokenizer, NORM_MAX + 1)

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
        network, processor = _load_network(folder, dtype)
        card = ModelCard(folder.resolve().name, _read_labels(folder), device)
        return cls(network.to(device), processor, card)

    @torch.inference_mode()
    def encode(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures (height, width[, 3]) uint8 -> features (pictures, image tokens, width)."""
        chunks = [
            self.processor.image_processor(list(pictures[i : i + _PICTURES_AT_ONCE]))
            for i in range(0, len(pictures), _PICTURES_AT_ONCE)
        ]
        return torch.cat([self.model.get_image_features(self._pixels(chunk)) for chunk in chunks])

    def ground(
        self, features: torch.Tensor, labels: Sequence[str], threshold: float = 0.5
    ) -> list[list[PictureAnswer]]:
        """Ask for every label on every picture; answers[picture][label].

        An object whose presence probability is below `threshold` is absent and gets no boxes.
        """
        questions = [grounding_prompt(label) for label in labels]
        absent_ids = [self._ids(format_absent(label))[0] for label in labels]
        pairs = [(p, q) for p in range(len(features)) for q in range(len(labels))]
        answers: list[PictureAnswer] = []
        for start in range(0, len(pairs), _QUESTIONS_AT_ONCE):
            batch = pairs[start : start + _QUESTIONS_AT_ONCE]
            gate = PresenceGate(
                present_id=self._ids(REF_START)[0],
                absent_ids=[absent_ids[q] for _, q in batch],
                end_id=self.tokenizer.eos_token_id,
                threshold=threshold,
            )
            output = self._generate(
                features[[p for p, _ in batch]], [questions[q] for _, q in batch], gate
            )
            answers += self._picture_answers(output, gate.presence)
        return [answers[i : i + len(labels)] for i in range(0, len(answers), len(labels))]

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
        self._refuse_control_tokens(questions)
        image = self.processor.image_token
        chats = [
            self.processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
                add_generation_prompt=True,
            ).replace(image, image * self.processor.num_image_tokens)
            for text in questions
        ]
        return self.tokenizer(chats, add_special_tokens=False, padding=True, return_tensors="pt")

    def _refuse_control_tokens(self, questions: Sequence[str]) -> None:
        added = self.tokenizer.added_tokens_decoder.values()
        for token in (str(token) for token in added if token.special):
            if any(token in question for question in questions):
                raise BadRequestError(
                    f"question: the control token {token} is refused; leave it out"
                )

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

    def _picture_answers(
        self, output: GenerateDecoderOnlyOutput, presence: Sequence[float]
    ) -> list[PictureAnswer]:
        answers = []
        for (tokens, probabilities), present in zip(
            self._answer_tokens(output), presence, strict=True
        ):
            text = self._text(tokens)
            if not tokens:
                answers.append(PictureAnswer(present, text))
                continue
            try:
                boxes_norm = parse_grounding(text).boxes_norm
            except GrammarError:
                answers.append(PictureAnswer(present, text, unreadable=True))
                continue
            scores = self._box_scores(tokens, probabilities)
            answers.append(PictureAnswer(present, text, boxes_norm, scores[: len(boxes_norm)]))
        return answers

    def _box_scores(self, tokens: list[int], probabilities: list[float]) -> tuple[float, ...]:
        start_id, end_id = self._ids(BOX_START)[0], self._ids(BOX_END)[0]
        scores, opened = [], None
        for position, token in enumerate(tokens):
            if token == start_id:
                opened = position + 1
            elif token == end_id and opened is not None:
                scores.append(geometric_mean(probabilities[opened:position]))
                opened = None
        return tuple(scores)


class PresenceGate(LogitsProcessor):
    """Decides at the first token whether an object is there, and remembers how likely it is.

    The choice is between the token that starts a box answer and the one that starts the sentence
    of absence; below the threshold the answer ends at once.
    """

    def __init__(
        self, present_id: int, absent_ids: Sequence[int], end_id: int, threshold: float
    ) -> None:
        self.present_id, self.absent_ids = present_id, list(absent_ids)
        self.end_id, self.threshold = end_id, threshold
        self.presence: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.presence:
            return scores
        rows = torch.arange(len(scores), device=scores.device)
        absent = scores[rows, torch.tensor(self.absent_ids, device=scores.device)].float()
        presence = torch.sigmoid(scores[:, self.present_id].float() - absent)
        self.presence = presence.tolist()
        first = torch.where(presence >= self.threshold, self.present_id, self.end_id)
        forced = torch.full_like(scores, -torch.inf)
        forced[rows, first] = 0
        return forced


def model_folder(model: str | Path) -> Path:
    """The folder of a shipped model's name, or the given folder itself."""
    shipped = WEIGHTS / str(model)
    if str(model) in shipped_models():
        return shipped
    folder = Path(model)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"model: {str(model)!r} is neither a folder with a config.json nor one of the shipped "
            f"models ({', '.join(shipped_models()) or 'none'})"
        )
    return folder


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def _load_network(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, ProcessorMixin]:
    config = _read_json(folder / "config.json")
    if config.get("model_type") != BirdConfig.model_type:
        raise CheckpointError(
            f"model: {folder} holds a {config.get('model_type')!r} model; turn an original "
            f"Qwen-VL-Chat or BiRD checkpoint into ours with `bird convert {folder} DST`"
        )
    disable_progress_bar()
    try:
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, local_files_only=True
        )
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"model: {folder} cannot be loaded: {reason}") from error
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
    if lacking:
        raise CheckpointError(f"model: {folder} lacks weights: {', '.join(map(str, lacking[:5]))}")
    return network, processor


def _read_labels(folder: Path) -> dict[str, list[str]]:
    path = folder / LABELS_FILE
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must hold a JSON object, got a {type(value).__name__}")
    return value
