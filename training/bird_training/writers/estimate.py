"""What a language model will cost for a whole build, guessed from a few pictures and their prompts.

Nothing is asked of anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bird_training.facts import PictureFacts
from bird_training.writers.llm import LlmManner
from bird_training.writers.offline import OfflineWriter
from bird_training.writers.plan import picture_rng, plan_picture
from bird_training.writers.prompting import Prompts
from bird_training.writers.steps import CaptionStep, Step, TurnsStep
from bird_vlm.chat import ChatMessage, ChatRequest
from bird_vlm.errors import BirdError

_ASKED_AGAIN = 1.3  # requests per question, refusals included; the report of a build tells yours
_ANSWER_SHARE = 0.6  # of the room that answers get, they take about so much


@dataclass(frozen=True)
class Estimate:
    """Sums over a build; prices are as the user gave them, per million tokens."""

    pictures: int
    requests: int
    question_tokens: int
    answer_tokens: int
    cost: float | None  # None where no price was given

    def __str__(self) -> str:
        cost = "no price given" if self.cost is None else f"about {self.cost:,.2f}"
        return (
            f"{self.pictures:,} pictures: about {self.requests:,} requests, "
            f"{self.question_tokens:,} tokens in, {self.answer_tokens:,} out; cost: {cost}"
        )


@dataclass(frozen=True)
class DryRun:
    """The prompts of some pictures, and what all pictures would cost."""

    prompts: tuple[tuple[ChatMessage, ...], ...]
    estimate: Estimate

    def __str__(self) -> str:
        shown = [
            "\n".join(f"[{message.role}]\n{message.text}" for message in messages)
            for messages in self.prompts
        ]
        return "\n\n".join([*shown, str(self.estimate)])


def dry_run(
    sample: Sequence[PictureFacts],
    pictures: int,
    manner: LlmManner,
    *,
    seed: int = 0,
    price_in: float | None = None,
    price_out: float | None = None,
) -> DryRun:
    """All prompts of `sample`, and the cost of `pictures` like them; prices per million tokens."""
    if not sample:
        raise BirdError("dry run: there is no picture to write about")
    prompts = Prompts(manner.prompts)
    steps = [step for facts in sample for step in _steps(facts, prompts, manner, seed)]
    asked = [step.messages(step.parts, {}) for step in steps]
    times = _ASKED_AGAIN * pictures / len(sample)
    question = round(times * sum(ChatRequest(messages).estimated_tokens() for messages in asked))
    answer = round(times * _ANSWER_SHARE * sum(step.room(step.parts) for step in steps))
    cost = None
    if price_in is not None or price_out is not None:
        cost = (question * (price_in or 0) + answer * (price_out or 0)) / 1e6
    return DryRun(
        tuple(asked), Estimate(pictures, round(times * len(steps)), question, answer, cost)
    )


def _steps(facts: PictureFacts, prompts: Prompts, manner: LlmManner, seed: int) -> list[Step]:
    plan = plan_picture(facts, picture_rng(facts, seed), manner.absent_questions)
    offline = OfflineWriter(manner.absent_questions).write(facts, picture_rng(facts, seed))
    return [CaptionStep(facts, prompts), TurnsStep(facts, prompts, plan, offline.caption)]
