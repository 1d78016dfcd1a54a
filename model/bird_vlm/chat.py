"""What is asked of a language model elsewhere, and its answer: plain nouns and their JSON.

The dialect is OpenAI's chat completions, which most servers speak. Knows nothing about HTTP.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from bird_vlm.errors import BadVolumeError

_AS_THEY_ARE = ("JPEG", "PNG", "WEBP")  # formats that servers read; others are sent as PNG
_CHARACTERS_PER_TOKEN = 4  # of English text, for estimates
_TOKENS_PER_IMAGE = 1000


@dataclass(frozen=True)
class ChatMessage:
    """One message; its pictures go before its text."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[str, ...] = ()  # data URLs, see `image_data_url`

    def body(self) -> dict[str, Any]:
        """The message as JSON; plain text where there is no picture."""
        if not self.images:
            return {"role": self.role, "content": self.text}
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in self.images]
        return {"role": self.role, "content": [*pictures, {"type": "text", "text": self.text}]}


@dataclass(frozen=True)
class ChatRequest:
    """A conversation that waits for its next message."""

    messages: tuple[ChatMessage, ...]
    max_tokens: int = 512  # of the answer
    temperature: float = 0.0
    seed: int | None = None  # same request, same seed: same answer, on servers that honour it
    extra: dict[str, Any] = field(default_factory=dict)  # goes over the rest; None takes a key out

    def body(self, model: str) -> dict[str, Any]:
        """The request as JSON."""
        body = {
            "model": model,
            "messages": [message.body() for message in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
        }
        return {name: value for name, value in (body | self.extra).items() if value is not None}

    def estimated_tokens(self) -> int:
        """Tokens of the question, guessed from its length."""
        characters = sum(len(message.text) for message in self.messages)
        pictures = sum(len(message.images) for message in self.messages)
        return characters // _CHARACTERS_PER_TOKEN + pictures * _TOKENS_PER_IMAGE


@dataclass(frozen=True)
class ChatAnswer:
    """What the model said, and what it took."""

    text: str
    finish: str = ""  # "stop"; "length" where the answer was cut off
    question_tokens: int = 0  # as the server counts; 0 where it does not tell
    answer_tokens: int = 0
    cached: bool = False  # read from disk, nothing was asked


def image_data_url(image: Path | np.ndarray) -> str:
    """A picture as a base64 data URL.

    `image` is a file, or (height, width) or (height, width, 3) uint8. Files in a format that
    browsers read are sent byte by byte, others as PNG. Raises BadVolumeError.
    """
    if isinstance(image, np.ndarray):
        return _data_url(_png(Image.fromarray(image)), "png")
    try:
        with Image.open(image) as picture:
            if picture.format in _AS_THEY_ARE:
                return _data_url(image.read_bytes(), picture.format.lower())
            return _data_url(_png(picture.convert("RGB")), "png")
    except (OSError, UnidentifiedImageError) as error:
        raise BadVolumeError(f"{image}: is no picture that can be sent ({error})") from error


def read_completion(text: str) -> ChatAnswer:
    """Read a server's reply. Raises ValueError where it is no chat completion."""
    reply = json.loads(text)
    try:
        choice = reply["choices"][0]
        content = choice["message"].get("content") or ""
        usage = reply.get("usage") or {}
        tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"no chat completion: {error!r}") from error
    if not isinstance(content, str):
        raise ValueError(f"no chat completion: the content is a {type(content).__name__}")
    return ChatAnswer(content, str(choice.get("finish_reason") or ""), *tokens)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
