"""Questions about the picture as a whole (MIA) that its annotation can answer.

Only what is annotated is said: kind of picture, region, plane, what is there and what is certainly
not, how many, where, and what is clearly larger or further left. Knows nothing about files.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from bird_training.facts import PlacedObject, Turn
from bird_training.writers.captions import image_words, write_caption
from bird_training.writers.wording import (
    ABSENT_ANSWERS,
    COUNT,
    COUNT_ANSWERS,
    KIND,
    KIND_ANSWERS,
    LARGER,
    LARGER_ANSWERS,
    MODALITY,
    MODALITY_ANSWERS,
    MODALITY_NAMES,
    NOTHING_ANSWERS,
    PLACE,
    PLACE_ANSWERS,
    PLANE,
    PLANE_ANSWERS,
    PRESENCE,
    PRESENT_ANSWERS,
    REGION,
    REGION_ANSWERS,
    REPORT,
    SEEN,
    SEEN_ANSWERS,
    SIDE,
    SIDE_ANSWERS,
    area,
    draw,
    enumeration,
    number_in_words,
    place_in_words,
    with_article,
)

_CLEARLY_LARGER = 1.5  # ratio of two objects' areas from which one object is called larger


def analysis_turns(
    modality: str,
    region: str,
    objects: Sequence[PlacedObject],
    *,
    plane: str = "",
    absent: Sequence[str] = (),
    rng: random.Random | None = None,
) -> list[Turn]:
    """One question of each topic that the facts can answer; kind of image and objects seen first.

    The same as the values of `analyses`.
    """
    return list(analyses(modality, region, objects, plane=plane, absent=absent, rng=rng).values())


def analyses(
    modality: str,
    region: str,
    objects: Sequence[PlacedObject],
    *,
    plane: str = "",
    absent: Sequence[str] = (),
    rng: random.Random | None = None,
) -> dict[str, Turn]:
    """Questions by topic: kind, seen, modality, region, plane, present, absent, count, place,
    larger, side and report, as far as the facts go.

    Which objects are asked for, and the wording, hang on `rng`; without it the first ones are
    taken, in plain words. An empty `region` or `plane` is not known and not asked for.
    """
    report = write_caption(modality, region, objects, plane=plane, rng=rng)
    return {
        **_of_picture(modality, region, objects, plane, rng),
        **_of_presence(objects, absent, rng),
        **_of_objects(objects, rng),
        **_of_pairs(objects, rng),
        "report": Turn("MIA", draw(REPORT, rng), report),
    }


def _of_picture(
    modality: str,
    region: str,
    objects: Sequence[PlacedObject],
    plane: str,
    rng: random.Random | None,
) -> dict[str, Turn]:
    labels, name = _labels(objects), MODALITY_NAMES[modality]
    seen = SEEN_ANSWERS if labels else NOTHING_ANSWERS
    technique = "fundus photography" if modality == "fundus" else name
    turns = {
        "kind": _turn(KIND, KIND_ANSWERS, rng, **image_words(modality, region, plane)),
        "seen": _turn(SEEN, seen, rng, objects=enumeration(labels)),
        "modality": _turn(
            MODALITY, MODALITY_ANSWERS, rng, technique=technique, a_modality=with_article(name)
        ),
    }
    if region:
        turns["region"] = _turn(REGION, REGION_ANSWERS, rng, region=region)
    if plane:
        turns["plane"] = _turn(PLANE, PLANE_ANSWERS, rng, plane=plane, a_plane=with_article(plane))
    return turns


def _of_presence(
    objects: Sequence[PlacedObject], absent: Sequence[str], rng: random.Random | None
) -> dict[str, Turn]:
    turns = {}
    if objects:
        turns["present"] = _turn(PRESENCE, PRESENT_ANSWERS, rng, label=_one(_labels(objects), rng))
    if absent:
        turns["absent"] = _turn(PRESENCE, ABSENT_ANSWERS, rng, label=_one(absent, rng))
    return turns


def _of_objects(objects: Sequence[PlacedObject], rng: random.Random | None) -> dict[str, Turn]:
    if not objects:
        return {}
    turns = {}
    if countable := _countable(objects):
        turns["count"] = _count(countable, rng)
    if single := _single(objects):
        placed = _one(single, rng)
        place = place_in_words(placed.box_norm)
        turns["place"] = _turn(PLACE, PLACE_ANSWERS, rng, label=placed.label, place=place)
    return turns


def _countable(objects: Sequence[PlacedObject]) -> list[PlacedObject]:
    """Without the objects one of whose masks has several areas: it counts as one and as more."""
    several = {o.label for o in objects if o.parts > 1}
    return [o for o in objects if o.label not in several]


def _count(objects: Sequence[PlacedObject], rng: random.Random | None) -> Turn:
    counts = Counter(o.label for o in objects)
    several = [label for label, count in sorted(counts.items()) if count > 1]
    label = _one(several or _labels(objects), rng)
    alone = counts[label] == 1
    return _turn(
        COUNT,
        COUNT_ANSWERS,
        rng,
        label=label,
        are="is" if alone else "are",
        number=number_in_words(counts[label]),
        areas="area" if alone else "areas",
    )


def _of_pairs(objects: Sequence[PlacedObject], rng: random.Random | None) -> dict[str, Turn]:
    pairs = list(combinations(_single(objects), 2))
    turns = {}
    if sizes := list(filter(None, (_by_size(*pair) for pair in pairs))):
        larger, smaller = _one(sizes, rng)
        first, second = _shuffled((larger, smaller), rng)
        names = {"first": first, "second": second, "larger": larger, "smaller": smaller}
        turns["larger"] = _turn(LARGER, LARGER_ANSWERS, rng, **names)
    if sides := list(filter(None, (_by_side(*pair) for pair in pairs))):
        left, right = _one(sides, rng)
        first, second = _shuffled((left, right), rng)
        names = {"first": first, "second": second, "left": left, "right": right}
        turns["side"] = _turn(SIDE, SIDE_ANSWERS, rng, **names)
    return turns


def _turn(
    questions: Sequence[str], answers: Sequence[str], rng: random.Random | None, **words: str
) -> Turn:
    return Turn("MIA", draw(questions, rng).format(**words), draw(answers, rng).format(**words))


def _labels(objects: Sequence[PlacedObject]) -> list[str]:
    return sorted({o.label for o in objects})


def _single(objects: Sequence[PlacedObject]) -> list[PlacedObject]:
    """The objects that are the only ones of their label, in the order of their labels."""
    counts = Counter(o.label for o in objects)
    return sorted((o for o in objects if counts[o.label] == 1), key=lambda o: o.label)


def _by_size(one: PlacedObject, other: PlacedObject) -> tuple[str, str] | None:
    small, large = sorted((one, other), key=_extent)
    clear = _extent(large) >= _CLEARLY_LARGER * _extent(small)
    return (large.label, small.label) if clear else None


def _extent(placed: PlacedObject) -> int:
    """The area of its mask, or of its box where that is all that is known."""
    return area(placed.box_norm) if placed.area_norm is None else placed.area_norm


def _by_side(one: PlacedObject, other: PlacedObject) -> tuple[str, str] | None:
    left, right = sorted((one, other), key=lambda o: o.box_norm)
    return (left.label, right.label) if left.box_norm[2] <= right.box_norm[0] else None


def _one(choices: Sequence[Any], rng: random.Random | None) -> Any:
    return rng.choice(choices) if rng else choices[0]


def _shuffled(pair: tuple[str, str], rng: random.Random | None) -> tuple[str, str]:
    return pair[::-1] if rng and rng.random() < 0.5 else pair
