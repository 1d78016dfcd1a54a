"""What can go wrong between us and a language model elsewhere, in the user's words.

Every message names the address and the model and says what to do next; none holds the key.
"""

from __future__ import annotations

import json
import re

from bird_vlm.errors import BirdError

_PASSING = {408, 409, 425, 429}  # and all from 500 up: worth another try
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached"}
_DETAIL = 300  # characters of a server's complaint that are shown
_SECRET = re.compile(r"\b(?:sk|key|tok|pk)-[\w*.-]{6,}")  # as servers quote a refused key


class EndpointError(BirdError):
    """This question got no answer; others may."""

    said = ""  # the part of the message that is the server's own words, without the key


class RefusedError(EndpointError):
    """The server will not answer this question as it was put."""


class EndpointDownError(EndpointError):
    """No question will get an answer: wrong address, model or key, or nobody is there."""


class PassingError(EndpointError):
    """Another try may help; `pause_s` is how long the server asks to wait."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class UnreachableError(PassingError, EndpointDownError):
    """Nobody listens, or the line was cut."""


class Complaint:
    """Turns what the `openai` package raises into one of the errors above."""

    def __init__(self, base_url: str, model: str, key_variable: str, key: str) -> None:
        self.url, self.model = base_url, model
        self.key_variable, self._key = key_variable, key

    def of_status(self, status: int, text: str, retry_after: str | None) -> EndpointError:
        """A reply that is no answer."""
        said = self.without_key(_detail(text))
        error = self._of_status(status, text, said, retry_after)
        error.said = said
        return error

    def _of_status(
        self, status: int, text: str, said: str, retry_after: str | None
    ) -> EndpointError:
        where = f"endpoint {self.url}, model {self.model!r}"
        if status in (401, 403):
            return EndpointDownError(
                f"{where}: refused the key (HTTP {status}{said}); put a valid one into the "
                f"environment variable {self.key_variable}"
            )
        if status == 404:
            return EndpointDownError(
                f"{where}: no such model or path (HTTP 404{said}); does the address end in /v1? "
                f"`curl {self.url}/models` lists the models"
            )
        if status == 402 or any(code in text for code in _NO_CREDIT):
            return EndpointDownError(f"{where}: no credit left (HTTP {status}{said}); top it up")
        if status == 429:
            return PassingError(
                f"{where}: too many requests (HTTP 429{said}); lower the requests or tokens per "
                "minute, or the concurrency",
                _seconds(retry_after),
            )
        if status in _PASSING or status >= 500:
            return PassingError(
                f"{where}: the server failed (HTTP {status}{said}); look at its log and run again",
                _seconds(retry_after),
            )
        return RefusedError(
            f"{where}: refuses this request (HTTP {status}{said}); "
            "a shorter one or other request fields may pass"
        )

    def timed_out(self, timeout_s: float) -> EndpointError:
        """No whole answer in time."""
        return PassingError(
            f"endpoint {self.url}, model {self.model!r}: no answer within {timeout_s:g} s; "
            "allow more time, ask fewer questions at once or take a smaller model"
        )

    def unreachable(self, error: BaseException) -> EndpointError:
        """No connection, or one that broke."""
        reason = self.without_key(str(error.__cause__ or error))
        return UnreachableError(
            f"endpoint {self.url}, model {self.model!r}: cannot be reached ({reason}); "
            "is the server running and the address right?"
        )

    def unreadable(self, error: ValueError) -> EndpointError:
        """A reply with status 200 that is no chat completion."""
        return PassingError(
            f"endpoint {self.url}, model {self.model!r}: answered with something else than a chat "
            f"completion ({self.without_key(str(error))[:_DETAIL]}); is the address right?"
        )

    def cancelled(self) -> EndpointError:
        """The user had enough."""
        return EndpointDownError(f"endpoint {self.url}, model {self.model!r}: asking was cancelled")

    def without_key(self, text: str) -> str:
        """The text with the key, or what looks like one, struck out."""
        text = text.replace(self._key, "***") if self._key else text
        return _SECRET.sub("***", text)


def _detail(text: str) -> str:
    """What the server says, for after a comma; "" where it says nothing readable."""
    try:
        reply = json.loads(text)
        said = reply.get("error", reply.get("detail", reply)) if isinstance(reply, dict) else reply
        said = said.get("message", said) if isinstance(said, dict) else said
    except ValueError:
        said = re.sub(r"<[^>]*>", " ", text)
    words = " ".join(str(said).split())[:_DETAIL]
    return f", {words!r}" if words else ""


def _seconds(retry_after: str | None) -> float:
    """The header's number of seconds; 0 where it is absent or a date."""
    try:
        return max(float(retry_after or 0), 0.0)
    except ValueError:
        return 0.0
