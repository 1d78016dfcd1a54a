"""What will be asked about a picture: drawn before a word is chosen, the same for both writers.

An `Ask` holds its question and answer in the offline writer's words; a language model may put them
otherwise, but has to say the same. Knows nothing about language models.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bird_training.facts import PictureFacts, PlacedObject, Turn
from bird_training.writers.analysis import analyses
from bird_training.writers.dialogues import (
    describing_turn,
    grounding_turn,
    may_drop_side,
    naming_turn,
)
from bird_training.writers.wording import AND_GROUNDING, AND_NAMING
from bird_vlm.boxes import BoxNorm
from bird_vlm.errors import BirdError
from bird_vlm.grammar import REF_END, REF_START, format_box
from bird_vlm.labels import without_side

_SHORTEST, _LONGEST = 2, 5  # turns of a dialogue
_HARDEST = 8  # absent objects that are asked for: the most plausible ones
_SIDELESS_SHARE = 0.3  # of grounding questions that could ask for "kidney" instead of "left kidney"
_LEAD_IN_SHARE = 0.5  # of later questions of a dialogue that start with "And"
_NOT_A_NAME = set("<>{}[]|\\`\n\r\t")
_LONGEST_LABEL, _MOST_WORDS = 60, 8
_OPENING = ("kind", "modality", "region", "seen")
_CLOSING = ("place", "count", "larger", "side", "present", "absent")


@dataclass(frozen=True)
class Ask:
    """One question to be worded."""

    topic: str  # present or absent (VG), name, describe, or a topic of `analysis.analyses`
    label: str  # of the object that is asked for; "" for the picture as a whole
    box_norm: BoxNorm | None  # that the question points at
    turn: Turn  # in the offline writer's words: what is true


@dataclass(frozen=True)
class PicturePlan:
    """The questions of one picture."""

    asks: tuple[Ask, ...]  # each stands alone
    dialogue: tuple[Ask, ...]  # one conversation; () for none


def check_facts(facts: PictureFacts) -> None:
    """Raises BirdError where a name of the data cannot be written into sentences.

    Names come from class tables of data sets: one that holds markers, or is a sentence, would be
    read as part of the language.
    """
    for name in (*(o.label for o in facts.objects), *facts.absent, facts.region, facts.plane):
        broken = _NOT_A_NAME & set(name) or not name.isprintable()
        if broken or len(name) > _LONGEST_LABEL or len(name.split()) > _MOST_WORDS:
            raise BirdError(
                f"{facts.id}: {name[:80]!r} is no name of an object or region (at most "
                f"{_MOST_WORDS} words without markers); mend it in the data set's class table"
            )
    if "" in {o.label for o in facts.objects} | set(facts.absent):
        raise BirdError(f"{facts.id}: an object has no name; mend the data set's class table")


def picture_rng(facts: PictureFacts, seed: int) -> random.Random:
    """The chance of one picture: the same whatever was written before it."""
    return random.Random(f"{seed}/{facts.id}")


def plan_picture(facts: PictureFacts, rng: random.Random, absent_questions: int) -> PicturePlan:
    """One question per task as far as the facts go, questions for absent objects, a dialogue.

    Raises BirdError where a name is none (`check_facts`).
    """
    check_facts(facts)
    topics = _analyses(facts, rng)
    asks = [_present(facts, rng)] if facts.objects else []
    asks += _absent(facts, rng, absent_questions)
    if facts.objects:
        asks.append(_name(rng.choice(facts.objects), rng))
        asks.append(_describe(rng.choice(facts.objects), facts, rng))
    asks.append(topics[rng.choice(sorted(topics))])
    return PicturePlan(tuple(asks), _dialogue(facts, rng))


def _present(facts: PictureFacts, rng: random.Random, label: str = "") -> Ask:
    label = label or rng.choice(sorted({o.label for o in facts.objects}))
    present = {o.label for o in facts.objects}
    if rng.random() < _SIDELESS_SHARE and may_drop_side(label, present, facts.absent):
        label = without_side(label)
    return Ask("present", label, None, grounding_turn(label, facts.objects, rng))


def _absent(facts: PictureFacts, rng: random.Random, count: int) -> list[Ask]:
    """From the more plausible ones, which `facts.absent` names first."""
    hard = facts.absent[: 2 * count + 1]
    chosen = rng.sample(hard, min(count, len(hard)))
    return [Ask("absent", label, None, grounding_turn(label, (), rng)) for label in chosen]


def _name(placed: PlacedObject, rng: random.Random) -> Ask:
    return Ask("name", placed.label, placed.box_norm, naming_turn(placed, rng))


def _describe(placed: PlacedObject, facts: PictureFacts, rng: random.Random) -> Ask:
    turn = describing_turn(placed, facts.modality, rng)
    return Ask("describe", placed.label, placed.box_norm, turn)


def _analyses(facts: PictureFacts, rng: random.Random) -> dict[str, Ask]:
    turns = analyses(
        facts.modality,
        facts.region,
        facts.objects,
        plane=facts.plane,
        absent=facts.absent[:_HARDEST],
        rng=rng,
    )
    return {topic: Ask(topic, "", None, turn) for topic, turn in turns.items()}


def _dialogue(facts: PictureFacts, rng: random.Random) -> tuple[Ask, ...]:
    """From the whole to its parts: the picture, where a thing is, what its box shows, others."""
    topics = _analyses(facts, rng)
    steps = list(_steps(facts, topics, rng))
    wanted = rng.randint(_SHORTEST, _LONGEST)
    kept = sorted(rng.sample(range(len(steps)), min(wanted, len(steps))))
    chosen = [steps[i] for i in kept]
    return (*chosen[:1], *(_follow(ask, rng) for ask in chosen[1:]))


def _steps(facts: PictureFacts, topics: dict[str, Ask], rng: random.Random) -> Iterator[Ask]:
    openings = [topic for topic in _OPENING if topic in topics]
    for topic in sorted(rng.sample(openings, 2), key=openings.index):
        yield topics[topic]
    if facts.objects:
        found = rng.choice(facts.objects)
        yield _present(facts, rng, found.label)
        yield _describe(found, facts, rng)
        others = [o for o in facts.objects if o.label != found.label]
        if others:
            yield _name(rng.choice(others), rng)
    yield from _absent(facts, rng, 1)
    closings = [topic for topic in _CLOSING if topic in topics]
    for topic in rng.sample(closings, min(1, len(closings))):
        yield topics[topic]


def _follow(ask: Ask, rng: random.Random) -> Ask:
    """A later question of a dialogue may lean on those before it."""
    if rng.random() >= _LEAD_IN_SHARE:
        return ask
    if ask.topic in ("present", "absent") and ask.turn.task == "VG":
        words = rng.choice((ask.label, f"{REF_START}{ask.label}{REF_END}"))
        question = rng.choice(AND_GROUNDING).format(words=words)
    elif ask.topic == "name" and ask.box_norm:
        question = rng.choice(AND_NAMING).format(box=format_box(ask.box_norm))
    else:
        return ask
    return replace(ask, turn=replace(ask.turn, question=question))
