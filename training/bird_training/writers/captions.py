"""A caption of the whole picture from what is known of it (paper, section 3.1, step (ii)).

Knows nothing about questions or language models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from bird_training.facts import PlacedObject
from bird_training.writers.wording import (
    KIND_ANSWERS,
    MODALITY_NAMES,
    NOTHING_ANSWERS,
    area,
    capital,
    draw,
    enumeration,
    joined,
    number_in_words,
    place_in_words,
    with_article,
)

_PLACED = 3  # objects whose place is told; the others are only named
_OPENINGS = ("It shows {objects}.", "Visible here: {objects}.", "We see {objects}.")
_OTHERS = ("It also shows {objects}.", "Also visible: {objects}.", "There is also {objects}.")
_ONE = ("the {label} in the {place}", "the {label} ({place})")
_SEVERAL = ("{number} areas of {label}", "{label} in {number} areas")


def image_words(modality: str, region: str, plane: str) -> dict[str, str]:
    """The words for the picture as a whole that sentences may use.

    >>> image_words("x", "chest", "")["a_image"]
    'an X-ray image'
    """
    a_image = with_article(" ".join(filter(None, (plane, MODALITY_NAMES[modality], "image"))))
    return {
        "a_image": a_image,
        "A_image": capital(a_image),
        "of_region": f" of the {region}" if region else "",
    }


def write_caption(
    modality: str,
    region: str,
    objects: Sequence[PlacedObject],
    *,
    plane: str = "",
    rng: random.Random | None = None,
) -> str:
    """Two or three short sentences: the kind of picture, its largest objects, then the others."""
    kind = draw(KIND_ANSWERS, rng).format(**image_words(modality, region, plane))
    if not objects:
        return f"{kind} {draw(NOTHING_ANSWERS, rng)}"
    by_size = _by_size(objects)
    placed = [_placed(label, by_size[label], rng) for label in list(by_size)[:_PLACED]]
    caption = f"{kind} {draw(_OPENINGS, rng).format(objects=joined(placed))}"
    others = sorted(list(by_size)[_PLACED:])
    if not others:
        return caption
    return f"{caption} {draw(_OTHERS, rng).format(objects=enumeration(others))}"


def _by_size(objects: Sequence[PlacedObject]) -> dict[str, list[PlacedObject]]:
    """The instances of each label, the label with the largest one first."""
    groups: dict[str, list[PlacedObject]] = {}
    for placed in sorted(objects, key=lambda o: (-area(o.box_norm), o.label)):
        groups.setdefault(placed.label, []).append(placed)
    return groups


def _placed(label: str, instances: Sequence[PlacedObject], rng: random.Random | None) -> str:
    if len(instances) > 1:
        return draw(_SEVERAL, rng).format(label=label, number=number_in_words(len(instances)))
    place = place_in_words(instances[0].box_norm)
    return draw(_ONE, rng).format(label=label, place=place)
