"""Who answers a test set: the seam between `predict.py` and the models, and models elsewhere.

`answering_engine.py` has our own models. Knows nothing about files of predictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from bird_training.evaluation.questions import Question
from bird_vlm.chat import ChatMessage, ChatRequest, image_data_url
from bird_vlm.endpoint import Endpoint
from bird_vlm.endpoint_errors import EndpointError
from bird_vlm.errors import BirdError

MAX_TOKENS = 100  # of an answer, as in the paper's evaluation of MIA


@dataclass(frozen=True)
class Answer:
    """What a model says to one question."""

    text: str
    score: float | None = None  # 0..1, how sure it is
    failed: str = ""  # why there is no answer


class Answerer(Protocol):
    """A model that can be asked."""

    name: str  # for people
    fingerprint: str  # changes when the model does
    batch: int  # questions that are best asked together

    def answer(self, batches: Iterable[Sequence[Question]]) -> Iterator[list[Answer]]:
        """Answers batch by batch, in the order of the questions."""


class EndpointAnswerer:
    """A model behind an OpenAI-compatible address; questions go as they stand in the test set."""

    def __init__(self, endpoint: Endpoint, keep_failed: bool = False) -> None:
        self._endpoint, self._keep_failed = endpoint, keep_failed
        self.name = endpoint.settings.model
        self.fingerprint = f"{self.name} at {endpoint.settings.base_url.rstrip('/')}"
        self.batch = endpoint.settings.concurrency

    def answer(self, batches: Iterable[Sequence[Question]]) -> Iterator[list[Answer]]:
        """Several questions are under way at a time, also across batches.

        A question that the server refuses for good ends the run, or with `keep_failed` gets an
        empty answer that tells why.
        """
        waiting = list(batches)
        answers = self._endpoint.ask_all(chat_request(q) for batch in waiting for q in batch)
        for batch in waiting:
            replies = list(islice(answers, len(batch)))
            yield [self._read(*pair) for pair in zip(batch, replies, strict=True)]

    def _read(self, question: Question, reply) -> Answer:
        if not isinstance(reply, EndpointError):
            return Answer(reply.text)
        if self._keep_failed:
            return Answer("", failed=str(reply))
        raise BirdError(
            f"{reply} (question about {question.image}); the same command goes on from here, "
            "--keep-failed goes on without this answer"
        ) from reply


def chat_request(question: Question) -> ChatRequest:
    """The question with its picture, after the turns before it."""
    texts = [text for turn in question.history for text in turn] + [question.text]
    roles = ("user", "assistant")
    picture = (image_data_url(question.picture),)
    messages = (
        ChatMessage(roles[number % 2], text, picture if number == 0 else ())
        for number, text in enumerate(texts)
    )
    return ChatRequest(tuple(messages), max_tokens=MAX_TOKENS)
