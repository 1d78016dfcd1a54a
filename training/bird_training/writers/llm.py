"""The writer that has a language model put the facts into words (paper, section 3.1, (ii), (iii)).

Two questions per picture: a caption, then all questions and answers. Each part that comes back is
checked against the annotation; what is refused is asked for again with the reason. What is refused
to the last try is written by the offline writer, or the picture is left out; both are listed.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bird_training.facts import PictureFacts, WrittenPicture
from bird_training.writers.captions import write_caption
from bird_training.writers.plan import plan_picture
from bird_training.writers.prompting import Prompts
from bird_training.writers.report import Report
from bird_training.writers.steps import CaptionStep, Read, Step, TurnsStep
from bird_vlm.chat import ChatAnswer, ChatRequest
from bird_vlm.endpoint import Endpoint
from bird_vlm.endpoint_errors import EndpointDownError, EndpointError

OnRefusal = Literal["offline", "skip"]
_MOST_FAILURES = 10  # requests in a row without an answer, after which the build stops


@dataclass(frozen=True)
class LlmManner:
    """How the language model is asked."""

    prompts: Path | None = None  # a folder; None = the shipped one
    tries: int = 3  # for each part, the first one included
    on_refusal: OnRefusal = "offline"  # what becomes of what is refused to the last try
    temperature: float = 0.7
    extra: dict[str, Any] = field(default_factory=dict)  # fields of the request, over all others
    absent_questions: int = 1  # per picture


class LlmWriter:
    """Writes pictures with the model behind `endpoint`; may be used from several threads."""

    def __init__(self, endpoint: Endpoint, report: Report, manner: LlmManner | None = None) -> None:
        self.endpoint, self.report = endpoint, report
        self.manner = manner or LlmManner()
        self.prompts = Prompts(self.manner.prompts)
        self._failures, self._lock = 0, threading.Lock()

    def write(self, facts: PictureFacts, rng: random.Random) -> WrittenPicture | None:
        """The picture in words; None where it is to be skipped.

        Same facts, `rng` and cache give the same words without asking again. Raises BirdError
        where a name is none, and EndpointDownError where going on makes no sense.
        """
        plan = plan_picture(facts, rng, self.manner.absent_questions)
        offline = write_caption(
            facts.modality, facts.region, facts.objects, plane=facts.plane, rng=rng
        )
        seed = rng.getrandbits(31)
        captioning = CaptionStep(facts, self.prompts)
        captions = self._finish(captioning, seed)
        caption = captions.good.get(0, offline)
        conversing = TurnsStep(facts, self.prompts, plan, caption)
        turns = self._finish(conversing, seed)
        lost = [(captioning.name(n), why) for n, why in captions.refused.items()]
        lost += [(conversing.name(n), why) for n, why in turns.refused.items()]
        if lost and self.manner.on_refusal == "skip":
            self.report.close_picture(facts.id, "skipped", lost)
            return None
        self.report.close_picture(facts.id, "offline" if lost else "llm", lost)
        written = [turns.good.get(n, ask.turn) for n, ask in enumerate(conversing.asks)]
        alone = len(plan.asks)
        return WrittenPicture(caption, tuple(written[:alone]), tuple(written[alone:]))

    def _finish(self, step: Step, seed: int) -> Read:
        """Ask for all parts of a step, and again for those that are refused."""
        done = Read({}, {})
        waiting = step.parts
        for attempt in range(self.manner.tries):
            if not waiting:
                break
            answer = self._ask(step, waiting, done.refused, seed + attempt)
            if answer is None:
                return Read(done.good, dict.fromkeys(waiting, "no answer"))
            read = step.read(answer, waiting)
            self.report.count(len(read.good), read.refused.values())
            done = Read(done.good | read.good, read.refused)
            waiting = tuple(read.refused)
        return done

    def _ask(
        self, step: Step, parts: tuple[int, ...], refused: dict[int, str], seed: int
    ) -> ChatAnswer | None:
        """The model's answer; None where it failed. Too many failures in a row end it all."""
        request = ChatRequest(
            step.messages(parts, refused),
            max_tokens=step.room(parts),
            temperature=self.manner.temperature,
            seed=seed,
            extra=self.manner.extra,
        )
        try:
            answer = self.endpoint.ask(request)
        except EndpointDownError:
            raise
        except EndpointError as error:
            self._count_failure(error)
            return None
        with self._lock:
            self._failures = 0
        return answer

    def _count_failure(self, error: EndpointError) -> None:
        self.report.no_answer()
        with self._lock:
            self._failures += 1
            if self._failures < _MOST_FAILURES:
                return
        raise EndpointDownError(
            f"{error} ({_MOST_FAILURES} requests in a row failed: stopped; what is written stays, "
            "the same command goes on from there)"
        ) from error
