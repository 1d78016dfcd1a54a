"""What `medgrit build` has to offer about writers, and how to open one.

`open_writer` and `write_all` belong in one process: threads do the waiting, and an endpoint does
not cross a fork. Knows nothing about files of a build.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol

from bird_training.facts import PictureFacts, WrittenPicture
from bird_training.writers.llm import LlmManner, LlmWriter, OnRefusal
from bird_training.writers.offline import OfflineWriter
from bird_training.writers.plan import picture_rng
from bird_training.writers.report import Report
from bird_vlm.endpoint import Endpoint, EndpointSettings
from bird_vlm.errors import BirdError

ADDRESS_VARIABLE = "OPENAI_BASE_URL"


class Writer(Protocol):
    """Facts in, words out."""

    def write(self, facts: PictureFacts, rng: Random) -> WrittenPicture | None:
        """None where the picture is to be left out."""


@dataclass(frozen=True)
class WriterOptions:
    """Which writer, and how; picklable."""

    kind: Literal["offline", "llm"] = "offline"
    absent_questions: int = 1  # per picture
    endpoint: str = ""
    model: str = ""
    key_variable: str = "OPENAI_API_KEY"
    prompts: Path | None = None
    cache: Path | None = None
    tries: int = 3  # for each text, before it is given up
    on_refusal: OnRefusal = "offline"
    temperature: float = 0.7
    extra: dict[str, Any] = field(default_factory=dict)
    concurrency: int = 8  # requests at a time
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout_s: float = 120.0
    attempts: int = 5  # per request, where the line or the server fails
    price_in: float | None = None
    price_out: float | None = None

    @property
    def threads(self) -> int:
        """Pictures to have under way at a time."""
        return self.concurrency if self.kind == "llm" else 1

    def settings(self) -> EndpointSettings:
        """Of the endpoint. Raises BirdError where the address or the model is missing."""
        address = self.endpoint or os.environ.get(ADDRESS_VARIABLE, "")
        if not address or not self.model:
            raise BirdError(
                "writer: llm needs --endpoint (or the environment variable "
                f"{ADDRESS_VARIABLE}) and --model; --writer offline needs neither"
            )
        return EndpointSettings(
            base_url=address,
            model=self.model,
            key_variable=self.key_variable,
            timeout_s=self.timeout_s,
            attempts=self.attempts,
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
        )

    def manner(self) -> LlmManner:
        """How the model is asked."""
        return LlmManner(
            prompts=self.prompts,
            tries=self.tries,
            on_refusal=self.on_refusal,
            temperature=self.temperature,
            extra=self.extra,
            absent_questions=self.absent_questions,
        )


@contextmanager
def open_writer(options: WriterOptions, report: Path | None = None) -> Iterator[Writer]:
    """The writer as long as the context lasts; `report` lists what the language model lost."""
    if options.kind == "offline":
        yield OfflineWriter(options.absent_questions)
        return
    with Endpoint(options.settings(), options.cache) as endpoint:
        yield LlmWriter(endpoint, Report(report), options.manner())


def write_all(
    writer: Writer, all_facts: Iterable[PictureFacts], seed: int, threads: int
) -> Iterator[tuple[PictureFacts, WrittenPicture | None]]:
    """Every picture with its words, in the given order; a few of them are ahead at any time."""
    if threads == 1:
        for facts in all_facts:
            yield facts, writer.write(facts, picture_rng(facts, seed))
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="writer")
    ahead: deque[tuple[PictureFacts, Future]] = deque()
    try:
        for facts in all_facts:
            ahead.append((facts, pool.submit(writer.write, facts, picture_rng(facts, seed))))
            if len(ahead) > 2 * threads:
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def totals(writer: Writer) -> dict[str, Any]:
    """Counts of what was written, refused, asked and paid for; empty for the offline writer."""
    if not isinstance(writer, LlmWriter):
        return {}
    return writer.report.totals() | {"requests": asdict(writer.endpoint.used)}


def _finished(facts: PictureFacts, future: Future) -> tuple[PictureFacts, WrittenPicture | None]:
    return facts, future.result()
