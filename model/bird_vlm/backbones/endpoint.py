"""Models behind an OpenAI-compatible address: every picture is sent with each question about it.

Knows pictures, words and requests; knows nothing about volumes, slices or RAS. Neither labels nor
questions are logged, nor told in errors.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from contextlib import closing
from itertools import product

import numpy as np
import torch

from bird_vlm.answers import PictureAnswer, TextAnswer
from bird_vlm.backbones.endpoint_asking import Asking, SentPicture, sent_picture, without_wishes
from bird_vlm.backbones.pictures import as_features
from bird_vlm.backend import Backend, BackendError, UnansweredError
from bird_vlm.boxes import BoxNorm
from bird_vlm.catalogue.known import known_model
from bird_vlm.chat import ChatRequest
from bird_vlm.contract import ReferringTask
from bird_vlm.dialects import BoxDialect
from bird_vlm.endpoint import Endpoint, Usage
from bird_vlm.endpoint_answers import EndpointAnswer
from bird_vlm.endpoint_errors import EndpointDownError, EndpointError, RefusedError
from bird_vlm.endpoint_models import served_models
from bird_vlm.endpoint_privacy import without_words
from bird_vlm.model_card import ModelCard
from bird_vlm.tensor_cache import TensorCache

Pair = tuple[SentPicture, str]  # and a label


class EndpointEngine:
    """One model of one server, as `bird_vlm.engine.Engine`; `features` are the pictures.

    May be called from several threads. Raises BackendError, with the server's address and what to
    do, where an answer cannot be had; UnansweredError where others may.
    """

    def __init__(self, endpoint: Endpoint, dialect: BoxDialect, card: ModelCard) -> None:
        """`endpoint` is in use already; whoever opened it closes it."""
        self.endpoint, self.dialect, self.card = endpoint, dialect, card
        self.asking = Asking(dialect)
        self.features = TensorCache()
        self._grants_wishes = True  # until it refuses to

    @classmethod
    def open(cls, model: str, backend: Backend) -> EndpointEngine:
        """The model that the server calls `model`, or by the hub id that the table has for it.

        Raises BadRequestError where its dialect is not known.
        """
        dialect = backend.dialect_for(model)
        name = _name_there(model, backend)
        endpoint = Endpoint(backend.settings(name), backend.cache)
        endpoint.__enter__()
        engine = cls(endpoint, dialect, ModelCard(name, device=backend.url))
        weakref.finalize(engine, endpoint.__exit__)
        return engine

    @property
    def device(self) -> torch.device:
        """Where pictures wait to be sent."""
        return torch.device("cpu")

    @property
    def used(self) -> Usage:
        """Answers and tokens so far."""
        return self.endpoint.used

    def encode(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """The pictures themselves: (pictures, height, width[, 3]) uint8."""
        return as_features(pictures)

    def ground(
        self,
        features: torch.Tensor,
        labels: Sequence[str],
        threshold: float = 0.5,
        names: Sequence[Hashable] | None = None,
    ) -> list[list[PictureAnswer]]:
        """Ask for every label on every picture; answers[picture][label].

        First whether it is there, then where, if so. Presence is 1 or 0, and a box's score 1, where
        the server does not tell probabilities. `names` are not used.
        """
        pairs = list(product(self._sent(features), labels))
        presences = self._presences(pairs)
        answers = [PictureAnswer(presence or 0.0, "") for presence in presences]
        present = [n for n, presence in enumerate(presences) if _passes(presence, threshold)]
        replies = self._replies([self.asking.boxes(*pairs[n]) for n in present], labels)
        for n, reply in zip(present, replies, strict=True):
            answers[n] = self.asking.read_boxes(reply, *pairs[n], presences[n])
        return [answers[i : i + len(labels)] for i in range(0, len(answers), len(labels))]

    def refer(self, features: torch.Tensor, box_norm: BoxNorm, task: ReferringTask) -> TextAnswer:
        """Name (roc) or describe (rc) a box of one picture; features (1, height, width[, 3])."""
        (picture,) = self._sent(features)
        prompt = self.dialect.referring_prompt(task, box_norm, picture.shown)
        return self._words(picture, prompt, ())

    def ask(self, features: torch.Tensor, question: str) -> TextAnswer:
        """Answer a free question about one picture; features (1, height, width[, 3])."""
        (picture,) = self._sent(features)
        return self._words(picture, self.dialect.asking_prompt(question), (question,))

    def _sent(self, features: torch.Tensor) -> list[SentPicture]:
        return [sent_picture(pixels, self.dialect) for pixels in features.numpy()]

    def _presences(self, pairs: Sequence[Pair]) -> list[float | None]:
        """None where that is told by the boxes."""
        requests = [self.asking.presence(picture, label) for picture, label in pairs]
        if None in requests:  # the dialect has no such question
            return [None] * len(pairs)
        labels = [label for _, label in pairs]
        replies = self._replies(requests, labels)
        return list(map(self.asking.read_presence, replies, labels))

    def _words(self, picture: SentPicture, prompt: str, words: Sequence[str]) -> TextAnswer:
        (answer,) = self._replies([self.asking.words(picture, prompt)], words)
        return TextAnswer(answer.text.strip(), answer.certainty)

    def _replies(
        self, requests: Sequence[ChatRequest], words: Sequence[str]
    ) -> list[EndpointAnswer]:
        """In order; `words` are the user's own, and are kept out of errors."""
        try:
            return self._as_it_likes(requests)
        except EndpointError as error:
            ended = isinstance(error, EndpointDownError)
            raised = BackendError if ended else UnansweredError
            raise raised(without_words(error, words)) from None

    def _as_it_likes(self, requests: Sequence[ChatRequest]) -> list[EndpointAnswer]:
        plain = list(map(without_wishes, requests))
        if not self._grants_wishes:
            return self._ask_all(plain)
        try:
            return self._ask_all(requests)
        except RefusedError:
            answers = self._ask_all(plain)  # refused again, unless it was for the wishes
            self._grants_wishes = False
            return answers

    def _ask_all(self, requests: Sequence[ChatRequest]) -> list[EndpointAnswer]:
        answers = []
        with closing(self.endpoint.ask_all(requests)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, EndpointError):
                    raise outcome
                answers.append(outcome)
        return answers


def _passes(presence: float | None, threshold: float) -> bool:
    return presence is None or presence >= threshold


def _name_there(model: str, backend: Backend) -> str:
    try:
        served = served_models(backend.settings(model))
    except EndpointError as error:
        raise BackendError(str(error)) from error
    card = known_model(model)
    return card.id if card and card.id in served and model not in served else model
