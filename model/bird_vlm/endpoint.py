"""A language model behind any OpenAI-compatible address: text and pictures in, text out.

Retries what may pass, keeps to rate limits, asks several questions at a time, remembers answers on
disk. Nothing here prints or stores the key. Knows nothing about what is asked, nor about torch.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bird_vlm.chat import ChatAnswer, ChatRequest, read_completion
from bird_vlm.endpoint_errors import Complaint, EndpointDownError, EndpointError, PassingError
from bird_vlm.errors import BirdError

if TYPE_CHECKING:
    from diskcache import Cache
    from tenacity import RetryCallState

_LONGEST_PAUSE_S = 60.0
_LONGEST_ASKED_PAUSE_S = 600.0  # however long a server asks to wait


@dataclass(frozen=True)
class EndpointSettings:
    """Where the model is and how hard it may be asked."""

    base_url: str  # ends in /v1 on most servers
    model: str
    key_variable: str = "OPENAI_API_KEY"  # environment variable; need not be set for local servers
    timeout_s: float = 120.0  # for one whole answer
    attempts: int = 5  # per question, the first one included
    concurrency: int = 8  # questions under way at a time
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None  # questions and answers together

    def __post_init__(self) -> None:
        _check_address(self.base_url, self.key_variable)
        if not self.model:
            raise BirdError("model: name one; `curl URL/models` lists what a server has")
        for name in ("timeout_s", "attempts", "concurrency"):
            if getattr(self, name) <= 0:
                raise BirdError(f"{name}: must be above 0, got {getattr(self, name)}")
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise BirdError(f"{name}: must be above 0, got {value}")


@dataclass
class Usage:
    """What has been asked so far."""

    answered: int = 0  # by the server
    cached: int = 0  # from disk
    retried: int = 0
    failed: int = 0
    question_tokens: int = 0  # of what the server answered
    answer_tokens: int = 0


class Pace:
    """Spreads a limit evenly over the minute, so that no minute exceeds it."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60.0 / per_minute if per_minute else 0.0
        self._free_at = 0.0

    def reserve(self, amount: float) -> float:
        """Take `amount`; returns how many seconds to wait before using it."""
        now = time.monotonic()
        start = max(now, self._free_at)
        self._free_at = start + amount * self._seconds_each
        return start - now

    def settle(self, difference: float) -> None:
        """More (or less) was used than reserved."""
        self._free_at += difference * self._seconds_each


class Endpoint:
    """A model to ask; use as a context manager.

    `cancel()`, and leaving the context, end the questions under way. May be used from several
    threads; not across a fork. `cache` is a folder of answers, keyed by whole requests,
    which several processes may share and which outlives a crash.
    """

    def __init__(self, settings: EndpointSettings, cache: Path | None = None) -> None:
        self.settings, self.used = settings, Usage()
        self._cache_folder = cache
        self._key = os.environ.get(settings.key_variable, "")
        self._complaint = Complaint(
            settings.base_url, settings.model, settings.key_variable, self._key
        )
        self._requests = Pace(settings.requests_per_minute)
        self._tokens = Pace(settings.tokens_per_minute)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._under_way: set[Future] = set()
        self._cancelled = False
        self._opened = ExitStack()
        _check_packages()

    def __enter__(self) -> Endpoint:
        import openai
        from anyio.from_thread import start_blocking_portal

        with ExitStack() as opening:
            self._cache = _open_cache(self._cache_folder, opening)
            self._portal = opening.enter_context(start_blocking_portal())
            self._client = openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=self.settings.base_url,
                timeout=self.settings.timeout_s,
                max_retries=0,  # retries are paced, counted and cancelled here
            )
            opening.callback(self._portal.call, self._client.close)
            self._opened = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.cancel()
        self._opened.close()

    def ask(self, request: ChatRequest) -> ChatAnswer:
        """The answer to one question. Raises EndpointError."""
        return self._result(self._submit(request))

    def ask_all(self, requests: Iterable[ChatRequest]) -> Iterator[ChatAnswer | EndpointError]:
        """Answers in the order of the questions, several asked at a time.

        A question that fails yields its error; EndpointDownError is raised.
        """
        waiting: deque[Future] = deque()
        try:
            for request in requests:
                waiting.append(self._submit(request))
                if len(waiting) > 2 * self.settings.concurrency:
                    yield self._outcome(waiting.popleft())
            while waiting:
                yield self._outcome(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def cancel(self) -> None:
        """End all questions under way and refuse new ones; from any thread."""
        self._cancelled = True
        for future in list(self._under_way):
            future.cancel()

    def _submit(self, request: ChatRequest) -> Future:
        if self._cancelled:
            raise self._complaint.cancelled()
        future = self._portal.start_task_soon(self._answer, request)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def _result(self, future: Future) -> ChatAnswer:
        try:
            return future.result()
        except CancelledError as error:
            raise self._complaint.cancelled() from error

    def _outcome(self, future: Future) -> ChatAnswer | EndpointError:
        try:
            return self._result(future)
        except EndpointDownError:
            raise
        except EndpointError as error:
            return error

    async def _answer(self, request: ChatRequest) -> ChatAnswer:
        body = request.body(self.settings.model)
        key = _cache_key(self.settings.base_url, body)
        if self._cache is not None and (stored := self._cache.get(key)) is not None:
            self.used.cached += 1
            return ChatAnswer(**stored | {"cached": True})
        async with self._slots:
            answer = await self._ask_until_answered(request, body)
        if self._cache is not None:
            self._cache.set(key, asdict(answer))
        return answer

    async def _ask_until_answered(self, request: ChatRequest, body: dict[str, Any]) -> ChatAnswer:
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.settings.attempts),
            wait=_pause_s,
            retry=retry_if_exception_type(PassingError),
            before_sleep=self._count_retry,
            reraise=True,
        )
        try:
            answer = await retrying(self._ask_once, request, body)
        except EndpointError:
            self.used.failed += 1
            raise
        self.used.answered += 1
        self.used.question_tokens += answer.question_tokens
        self.used.answer_tokens += answer.answer_tokens
        return answer

    async def _ask_once(self, request: ChatRequest, body: dict[str, Any]) -> ChatAnswer:
        expected = request.estimated_tokens() + request.max_tokens
        await asyncio.sleep(max(self._requests.reserve(1), self._tokens.reserve(expected)))
        reply = await self._post(body)
        try:
            answer = read_completion(reply)
        except ValueError as error:
            raise self._complaint.unreadable(error) from error
        if used := answer.question_tokens + answer.answer_tokens:
            self._tokens.settle(used - expected)
        return answer

    async def _post(self, body: dict[str, Any]) -> str:
        """The reply's text."""
        import openai

        create = self._client.chat.completions.with_raw_response.create
        fields = dict(body)
        try:
            raw = await asyncio.wait_for(
                create(
                    model=fields.pop("model"), messages=fields.pop("messages"), extra_body=fields
                ),
                self.settings.timeout_s,
            )
        except openai.APIStatusError as error:
            status, headers = error.status_code, error.response.headers
            raise self._complaint.of_status(
                status, error.response.text, headers.get("retry-after")
            ) from None
        except (openai.APITimeoutError, asyncio.TimeoutError) as error:
            raise self._complaint.timed_out(self.settings.timeout_s) from error
        except openai.APIConnectionError as error:
            raise self._complaint.unreachable(error) from error
        return raw.text

    def _count_retry(self, state: RetryCallState) -> None:
        self.used.retried += 1


def _pause_s(state: RetryCallState) -> float:
    """Longer from try to try with some chance in it; at least what the server asks for."""
    from tenacity import wait_random_exponential

    error = state.outcome.exception() if state.outcome else None
    asked = min(getattr(error, "pause_s", 0.0), _LONGEST_ASKED_PAUSE_S)
    return max(asked, wait_random_exponential(multiplier=1, max=_LONGEST_PAUSE_S)(state))


def _check_address(base_url: str, key_variable: str) -> None:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BirdError(f"endpoint: {base_url!r} is not an http or https address")
    if parts.username or parts.password or parts.query:
        raise BirdError(
            f"endpoint: the address of {parts.hostname} carries a name, password or query; "
            f"put the key into the environment variable {key_variable} instead"
        )


def _check_packages() -> None:
    try:
        import diskcache  # noqa: F401
        import openai  # noqa: F401
        import tenacity  # noqa: F401
    except ImportError as error:
        raise BirdError(
            f"endpoint: asking a model elsewhere needs the package {error.name!r}; "
            "install it with: pip install 'bird-slicer[endpoint]'"
        ) from error


def _open_cache(folder: Path | None, opened: ExitStack) -> Cache | None:
    if folder is None:
        return None
    from diskcache import Cache, JSONDisk

    try:
        # JSON, as unpickling runs what it finds; no eviction, as every answer was paid for
        cache = Cache(str(folder), disk=JSONDisk, eviction_policy="none")
    except (OSError, sqlite3.Error) as error:
        raise BirdError(f"cache: {folder} cannot be used ({error}); name another folder") from error
    return opened.enter_context(cache)


def _cache_key(base_url: str, body: dict[str, Any]) -> str:
    whole = json.dumps([base_url, body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(whole.encode()).hexdigest()
