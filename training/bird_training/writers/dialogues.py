"""Questions and answers for the four tasks, written from what is annotated on a picture.

The offline writer's turns: plain sentences, no language model. Knows nothing about files or
tensors. Where there is no `rng`, questions are the product's own and answers the plain ones.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from bird_training.facts import PlacedObject, Turn
from bird_training.writers.analysis import analysis_turns
from bird_training.writers.wording import (
    DESCRIBING,
    DESCRIPTIONS,
    GROUNDING,
    MODALITY_NAMES,
    NAMING,
    area,
    capital,
    draw,
    place_in_words,
    size_in_words,
    with_article,
)
from bird_vlm.grammar import (
    MAX_BOXES,
    REF_END,
    REF_START,
    format_absent,
    format_box,
    format_present,
)
from bird_vlm.labels import mirrored_name, without_side
from bird_vlm.prompts import grounding_prompt, referring_prompt

_WEIGHTS = (0.5, 0.25, 0.1, 0.07, 0.08)  # grounding, of absent objects, ROC, RC, MIA


def grounding_turn(
    label: str, objects: Sequence[PlacedObject], rng: random.Random | None = None
) -> Turn:
    """Where is `label`? All its boxes from left to right, or its absence.

    A label without a side asks for both: "kidney" finds the left and the right one.
    """
    boxes = [o.box_norm for o in objects if label in (o.label, without_side(o.label))]
    largest = sorted(boxes, key=area, reverse=True)[:MAX_BOXES]
    answer = format_present(label, tuple(sorted(largest))) if boxes else format_absent(label)
    question = draw((grounding_prompt("{label}"), *GROUNDING), rng)
    # people type no markers, the product writes them
    typed = label if rng and rng.random() < 0.5 else f"{REF_START}{label}{REF_END}"
    return Turn("VG", question.format(label=label, words=typed), answer)


def may_drop_side(label: str, present: Collection[str], absent: Collection[str]) -> bool:
    """Whether "left kidney" may be asked for as "kidney": only if the other side is known too."""
    other = mirrored_name(label)
    return other != label and (other in present or other in absent)


def naming_turn(placed: PlacedObject, rng: random.Random | None = None) -> Turn:
    """What is in this box?"""
    question = draw((referring_prompt("roc", placed.box_norm), *NAMING), rng)
    return Turn("ROC", question.format(box=format_box(placed.box_norm)), placed.label)


def describing_turn(placed: PlacedObject, modality: str, rng: random.Random | None = None) -> Turn:
    """Describe this box."""
    question = draw((referring_prompt("rc", placed.box_norm), *DESCRIBING), rng)
    size = size_in_words(placed.box_norm)
    answer = draw(DESCRIPTIONS, rng).format(
        label=placed.label,
        place=place_in_words(placed.box_norm),
        size=size,
        A_size=capital(with_article(size)),
        modality=MODALITY_NAMES[modality],
    )
    return Turn("RC", question.format(box=format_box(placed.box_norm)), answer)


def write_turns(
    modality: str,
    region: str,
    objects: Sequence[PlacedObject],
    absent: Sequence[str],
    rng: random.Random,
    count: int,
    *,
    plane: str = "",
) -> list[Turn]:
    """`count` turns for one picture: mostly grounding, a third of it of absent objects.

    `absent` names objects that are certainly not on the picture; no question is drawn twice.
    """
    present = {o.label for o in objects}
    sideless = {without_side(label) for label in present if may_drop_side(label, present, absent)}
    grounding = [grounding_turn(label, objects, rng) for label in sorted(present)]
    rng.shuffle(grounding)
    grounding += [
        grounding_turn(label, objects, rng) for label in rng.sample(sorted(sideless), len(sideless))
    ]
    refused = [grounding_turn(label, (), rng) for label in rng.sample(list(absent), len(absent))]
    naming = [naming_turn(o, rng) for o in rng.sample(list(objects), len(objects))]
    describing = [
        describing_turn(o, modality, rng) for o in rng.sample(list(objects), len(objects))
    ]
    analyses = analysis_turns(modality, region, objects, plane=plane, absent=absent, rng=rng)
    rng.shuffle(analyses)
    kinds = (grounding, refused, naming, describing, analyses)
    turns = []
    while len(turns) < count and any(kinds):
        kind = rng.choices(kinds, _WEIGHTS)[0]
        if kind:
            turns.append(kind.pop(0))
    return turns
