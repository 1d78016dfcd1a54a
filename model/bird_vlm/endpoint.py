"""A language model behind any OpenAI-compatible address: text and pictures in, text out.

Retries what may pass, keeps to rate limits, asks several questions at a time, remembers answers on
disk. Nothing here prints or stores the key. Knows nothing about what is asked, nor about torch.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bird_vlm.chat import ChatRequest
from bird_vlm.endpoint_answers import EndpointAnswer, read_answer
from bird_vlm.endpoint_cache import cache_key, open_cache
from bird_vlm.endpoint_errors import Complaint, EndpointDownError, EndpointError, PassingError
from bird_vlm.endpoint_settings import EndpointSettings
from bird_vlm.errors import BirdError

if TYPE_CHECKING:
    from tenacity import RetryCallState

_LONGEST_PAUSE_S = 60.0
_LONGEST_ASKED_PAUSE_S = 600.0  # however long a server asks to wait


@dataclass
class Usage:
    """What has been asked so far."""

    answered: int = 0  # by the server
    cached: int = 0  # from disk
    retried: int = 0
    failed: int = 0
    question_tokens: int = 0  # of what the server answered
    answer_tokens: int = 0

    def __str__(self) -> str:
        """In words, for people; nothing of what was asked."""
        from_disk = f", {self.cached} from disk" if self.cached else ""
        again = f"; {self.retried} tries again" if self.retried else ""
        failed = f"; {self.failed} failed" if self.failed else ""
        return (
            f"{self.answered} answers{from_disk}; {self.question_tokens:,} tokens of questions and "
            f"pictures, {self.answer_tokens:,} of answers{again}{failed}"
        )


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

        _quiet_clients()
        with ExitStack() as opening:
            self._cache = open_cache(self._cache_folder, opening)
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

    def ask(self, request: ChatRequest) -> EndpointAnswer:
        """The answer to one question. Raises EndpointError."""
        return self._result(self._submit(request))

    def ask_all(self, requests: Iterable[ChatRequest]) -> Iterator[EndpointAnswer | EndpointError]:
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

    def _result(self, future: Future) -> EndpointAnswer:
        try:
            return future.result()
        except CancelledError as error:
            raise self._complaint.cancelled() from error

    def _outcome(self, future: Future) -> EndpointAnswer | EndpointError:
        try:
            return self._result(future)
        except EndpointDownError:
            raise
        except EndpointError as error:
            return error

    async def _answer(self, request: ChatRequest) -> EndpointAnswer:
        body = request.body(self.settings.model)
        key = cache_key(self.settings.base_url, body)
        if self._cache is not None and (stored := self._cache.get(key)) is not None:
            self.used.cached += 1
            return EndpointAnswer(**stored | {"cached": True})
        async with self._slots:
            answer = await self._ask_until_answered(request, body)
        if self._cache is not None:
            self._cache.set(key, asdict(answer))
        return answer

    async def _ask_until_answered(
        self, request: ChatRequest, body: dict[str, Any]
    ) -> EndpointAnswer:
        from tenacity import (
            AsyncRetrying,
            retry_if_exception_type,
            stop_after_attempt,
            stop_before_delay,
        )

        limits = self.settings
        retrying = AsyncRetrying(
            stop=stop_after_attempt(limits.attempts) | stop_before_delay(limits.total_s),
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

    async def _ask_once(self, request: ChatRequest, body: dict[str, Any]) -> EndpointAnswer:
        expected = request.estimated_tokens() + request.max_tokens
        await asyncio.sleep(max(self._requests.reserve(1), self._tokens.reserve(expected)))
        reply = await self._post(body)
        try:
            answer = read_answer(reply)
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


def _quiet_clients() -> None:
    """Some versions of `openai` log whole questions, and its HTTP client logs a line for each."""
    for name in ("openai", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


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
