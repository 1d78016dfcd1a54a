"""Which of the objects that a model boxed are the one that was asked for.

Knows names and norm boxes; knows nothing about how a family writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bird_vlm.boxes import BoxNorm
from bird_vlm.errors import GrammarError
from bird_vlm.grammar import MAX_BOXES, Grounding
from bird_vlm.labels import natural_name, side_of, without_side

ABSENT = Grounding("", ())


@dataclass(frozen=True)
class FoundObject:
    """One box of an answer."""

    label: str  # as the model wrote it; "" where it named nothing
    box_norm: BoxNorm


def grounding_of(found: Sequence[FoundObject], asked: str | None, text: str) -> Grounding:
    """The boxes of the asked object, in the order of the answer.

    What a model boxed beside it is left out. In this order:

    1. objects called as asked, and objects without a name;
    2. objects called as asked with a side or a number more ("left kidney" for "kidney");
    3. where all objects have one name, these, whatever the name: asked for "Leber", a model may
       box "hepatic parenchyma". `Grounding.label` tells. The opposite side ("right kidney" for
       "left kidney") is refused.

    Repeated boxes count once. Of more than MAX_BOXES the largest are kept, as in training.
    Raises GrammarError, with `text` in it, where several names are given and none is the asked one.
    """
    if not found:
        return ABSENT
    called = called_as_asked(found, asked) if asked is not None else []
    objects = called or _of_one_name(found, asked, text)
    return Grounding(objects[0].label, _largest(objects))


def same_object(label: str, asked: str) -> bool:
    """Whether two labels differ in spelling only: case, articles, order of the side, plural s.

    >>> same_object("Kidneys (left)", "left kidney"), same_object("kidney", "left kidney")
    (True, False)
    """
    return _singular(natural_name(label)) == _singular(natural_name(asked))


def called_as_asked(found: Sequence[FoundObject], asked: str) -> list[FoundObject]:
    """The objects of rule 1 of `grounding_of`, or those of rule 2 where there is none."""
    exact = [o for o in found if not o.label.strip() or same_object(o.label, asked)]
    return exact or [o for o in found if _is_instance(o.label, asked)]


def _of_one_name(
    found: Sequence[FoundObject], asked: str | None, text: str
) -> Sequence[FoundObject]:
    names = sorted({natural_name(o.label) for o in found})
    if len(names) > 1:
        raise GrammarError(
            f"answer: names {', '.join(names)} instead of {asked or 'one object'} in {text!r}"
        )
    sides = {side_of(names[0]), side_of(natural_name(asked or ""))} - {""}
    if len(sides) > 1:
        raise GrammarError(f"answer: names {names[0]} instead of {asked} in {text!r}")
    return found


def _largest(objects: Sequence[FoundObject]) -> tuple[BoxNorm, ...]:
    boxes_norm = list(dict.fromkeys(o.box_norm for o in objects))
    kept = sorted(boxes_norm, key=_area, reverse=True)[:MAX_BOXES]
    return tuple(box for box in boxes_norm if box in kept)


def _area(box_norm: BoxNorm) -> int:
    x0, y0, x1, y1 = box_norm
    return (x1 - x0) * (y1 - y0)


def _is_instance(label: str, asked: str) -> bool:
    words = natural_name(label).split()
    unnumbered = " ".join(word for word in words if not word.lstrip("#").isdigit())
    return same_object(unnumbered, asked) or same_object(without_side(unnumbered), asked)


def _singular(name: str) -> str:
    return " ".join(word.removesuffix("s") for word in name.split())
