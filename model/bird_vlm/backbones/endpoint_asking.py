"""What a model elsewhere is asked about one picture, and what its words mean.

Knows dialects, requests and answers; knows nothing about servers, volumes or torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bird_vlm.answers import PictureAnswer
from bird_vlm.boxes import BoxNorm
from bird_vlm.chat import ChatMessage, ChatRequest, image_data_url
from bird_vlm.dialects import BoxDialect, PresenceQuestion, ShownPicture
from bird_vlm.dialects.json_boxes import JsonBoxes
from bird_vlm.dialects.written import Span, number_spans
from bird_vlm.endpoint_answers import TELL_PROBABILITIES, Chances, EndpointAnswer, geometric_mean
from bird_vlm.errors import GrammarError

_PRESENCE_TOKENS = 8  # one tells; some models begin with a line break or an asterisk
_BOX_TOKENS = 512
_WORD_TOKENS = 256
_KEEP_MARKS = {"skip_special_tokens": False}
_NO_FIELDS: Mapping[str, bool] = {}
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class SentPicture:
    """A picture on its way to a server."""

    url: str  # PNG, as a data URL
    shown: ShownPicture


def sent_picture(pixels: np.ndarray, dialect: BoxDialect) -> SentPicture:
    """`pixels` (height, width[, 3]) uint8; sizes as the model's dialect tells them.

    Raises BadRequestError for a picture that cannot be shown to the model.
    """
    height, width = pixels.shape[:2]
    return SentPicture(image_data_url(pixels), dialect.sent(width, height))


class Asking:
    """Requests in a dialect, and its answers.

    Every request wishes for the probabilities of tokens, in fields that not all servers know.
    """

    def __init__(self, dialect: BoxDialect) -> None:
        self.dialect = dialect
        # other families mark boxes with tokens of their own, which vLLM and SGLang leave out
        self._box_fields = {} if isinstance(dialect, JsonBoxes) else _KEEP_MARKS

    def presence(self, picture: SentPicture, label: str) -> ChatRequest | None:
        """None where the dialect has no such question."""
        question = self.dialect.presence_question(label)
        return _request(picture, question.text, _PRESENCE_TOKENS) if question else None

    def boxes(self, picture: SentPicture, label: str) -> ChatRequest:
        prompt = self.dialect.grounding_prompt(label)
        return _request(picture, prompt, _BOX_TOKENS, self._box_fields)

    def words(self, picture: SentPicture, prompt: str) -> ChatRequest:
        return _request(picture, prompt, _WORD_TOKENS)

    def read_presence(self, answer: EndpointAnswer, label: str) -> float | None:
        """0..1; None where the answer is neither yes nor no."""
        question = self.dialect.presence_question(label)
        told = _told(answer.first_tokens, question)
        return _said(answer.text, question) if told is None else told

    def read_boxes(
        self, answer: EndpointAnswer, picture: SentPicture, label: str, presence: float | None
    ) -> PictureAnswer:
        """`presence` None: told by whether there are boxes."""
        text = answer.text
        try:
            boxes_norm = self.dialect.parse(text, picture.shown, label).boxes_norm
        except GrammarError:
            return PictureAnswer(presence or 0.0, text, unreadable=True)
        certainty = self._certainty(answer.tokens, picture.shown)
        scores = tuple(certainty.get(box_norm, 1.0) for box_norm in boxes_norm)
        presence = float(bool(boxes_norm)) if presence is None else presence
        return PictureAnswer(presence, text, boxes_norm, scores)

    def _certainty(self, tokens: Chances, shown: ShownPicture) -> dict[BoxNorm, float]:
        """Per written box the geometric mean of its number tokens' probabilities."""
        text = "".join(token for token, _ in tokens)
        spans = number_spans(self.dialect, text, shown)
        return {box_norm: _certainty_of(tokens, parts) for box_norm, parts in spans.items()}


def without_wishes(request: ChatRequest) -> ChatRequest:
    """For servers that refuse fields which they do not know."""
    return replace(request, extra={})


def _request(
    picture: SentPicture, prompt: str, max_tokens: int, fields: Mapping[str, bool] = _NO_FIELDS
) -> ChatRequest:
    message = ChatMessage("user", prompt, (picture.url,))
    return ChatRequest((message,), max_tokens=max_tokens, extra={**TELL_PROBABILITIES, **fields})


def _told(first_tokens: Chances, question: PresenceQuestion) -> float | None:
    """P(yes) / (P(yes) + P(no))."""
    yes, no = (
        sum(probability for token, probability in first_tokens if token.strip() in words)
        for words in (question.yes, question.no)
    )
    return yes / (yes + no) if yes + no else None


def _said(text: str, question: PresenceQuestion) -> float | None:
    first = _WORD.search(text)
    word = first.group().casefold() if first else ""
    for meaning, words in ((1.0, question.yes), (0.0, question.no)):
        if word in {known.casefold() for known in words}:
            return meaning
    return None


def _certainty_of(tokens: Chances, parts: Sequence[Span]) -> float:
    """Of the tokens that hold any character of `parts`."""
    start, probabilities = 0, []
    for token, probability in tokens:
        stop = start + len(token)
        if any(start < last and first < stop for first, last in parts):
            probabilities.append(probability)
        start = stop
    return geometric_mean(probabilities)
