"""Our own models as answerers: each picture encoded once and asked all its questions.

Questions are asked in the words of the test set and decoded greedily, as in the paper's
evaluation; boxes under the product's grammar, so that none is malformed. Knows nothing about files
of predictions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from transformers import LogitsProcessorList
from transformers.generation import GenerateDecoderOnlyOutput

from bird_training.evaluation.answering import MAX_TOKENS, Answer
from bird_training.evaluation.questions import Question
from bird_training.sources.reading import read_slice_picture
from bird_vlm.backbones.bird import BirdEngine
from bird_vlm.catalogue.names import model_path
from bird_vlm.confidence import geometric_mean
from bird_vlm.errors import BadRequestError
from bird_vlm.frames import BoxGrammar
from bird_vlm.grammar import REF_END, REF_START, format_absent
from bird_vlm.running import USUAL, Running

_NAMED = re.compile(f"{REF_START}(.*?){REF_END}")
_SAMPLES, _SAMPLE_BYTES = 16, 1 << 16


class QuestionEngine(BirdEngine):
    """An engine that takes questions as they are written, several pictures and turns at a time."""

    @torch.inference_mode()
    def ask_each(self, features: torch.Tensor, questions: Sequence[Question]) -> list[Answer]:
        """An answer per question; features (questions, image tokens, width).

        VG answers are scored by the probability that the object is present, read as the product
        reads it: the token that starts a box answer against the one that starts the sentence of
        absence. ROC answers by the geometric mean of their tokens' probabilities.
        """
        output = self._generate_each(features, questions)
        presence = self._presence(output.logits[0].float(), questions)
        answers = []
        for asked, (tokens, probabilities), present in zip(
            questions, self._answer_tokens(output), presence, strict=True
        ):
            sure = {"VG": present, "ROC": geometric_mean(probabilities)}.get(asked.task)
            score = None if sure is None else round(sure, 6)
            answers.append(Answer(self._text(tokens).strip(), score))
        return answers

    def _generate_each(
        self, features: torch.Tensor, questions: Sequence[Question]
    ) -> GenerateDecoderOnlyOutput:
        chats = [self._chat(question) for question in questions]
        inputs = self.tokenizer(chats, add_special_tokens=False, padding=True, return_tensors="pt")
        grammar = BoxGrammar(self.grounder.words, inputs["input_ids"].shape[1])
        return self.model.generate(
            **inputs.to(self.model.device),
            image_embeds=features,
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            logits_processor=LogitsProcessorList([grammar]),
            output_logits=True,
            return_dict_in_generate=True,
        )

    def _chat(self, asked: Question) -> str:
        texts = [text for turn in asked.history for text in turn] + [asked.text]
        try:
            self.processor.refuse_control_tokens(texts)
        except BadRequestError as error:
            raise BadRequestError(f"{asked.id}: {error}") from error
        messages = [
            {"role": ("user", "assistant")[n % 2], "content": [{"type": "text", "text": text}]}
            for n, text in enumerate(texts)
        ]
        messages[0]["content"].insert(0, {"type": "image"})
        image = self.processor.image_token
        chat = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        return chat.replace(image, image * self.processor.num_image_tokens)

    def _presence(self, first: torch.Tensor, questions: Sequence[Question]) -> list[float]:
        """Probability of each question's object; first logits (questions, vocabulary)."""
        labels = [_NAMED.search(question.text) for question in questions]
        absent = [format_absent(found.group(1) if found else "object") for found in labels]
        ids = torch.tensor([self._ids(text)[0] for text in absent], device=first.device)
        rows = torch.arange(len(first), device=first.device)
        return torch.sigmoid(first[:, self._ids(REF_START)[0]] - first[rows, ids]).tolist()


class EngineAnswerer:
    """One of our models on this machine."""

    def __init__(self, model: str, running: Running = USUAL, batch: int = 32) -> None:
        folder = model_path(model)
        self.name, self.fingerprint = folder_name(folder), weights_fingerprint(folder)
        self.batch = batch
        self._engine = QuestionEngine.load(folder, running)

    def answer(self, batches: Iterable[Sequence[Question]]) -> Iterator[list[Answer]]:
        """Answers batch by batch; a picture is read and encoded once in its batch."""
        for batch in batches:
            pictures = list(dict.fromkeys(question.picture for question in batch))
            features = self._engine.encode([read_slice_picture(path) for path in pictures])
            answers: list[Answer] = []
            for start in range(0, len(batch), self.batch):
                asked = batch[start : start + self.batch]
                rows = [pictures.index(question.picture) for question in asked]
                answers += self._engine.ask_each(features[rows], asked)
            yield answers


def folder_name(folder: Path) -> str:
    """A model's name for people: its folder's, or the run's whose `model/` it is.

    >>> folder_name(Path("runs/small/model")), folder_name(Path("weights/bird-mini"))
    ('small', 'bird-mini')
    """
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" else folder.name


def weights_fingerprint(folder: Path) -> str:
    """A name that another training of the same model does not share, cheap for large files."""
    sha = hashlib.sha256()
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    for path in files:
        size = path.stat().st_size
        sha.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for place in range(_SAMPLES):
                file.seek(size * place // _SAMPLES)
                sha.update(file.read(_SAMPLE_BYTES))
    return sha.hexdigest()[:16]
