"""Med-GRIT conversations in the box dialect of another model family.

What asks where one object is becomes the question that the product asks this family and the answer
that it reads; and beside it the question whether the object is there at all, where the product asks
that first. Questions about a box become the product's own where they have its words. In all else,
words stay and boxes are written as this family writes them:

    What is in the area <box>(52,180),(611,790)</box>?
    What is in the area {"bbox_2d": [52, 180, 611, 790]}?

Knows text; knows nothing about tokens, pixels or files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from bird_training.conversations import Conversation, Exchange
from bird_vlm.boxes import BoxNorm
from bird_vlm.contract import ReferringTask
from bird_vlm.dialects import ShownPicture, refuse_marks
from bird_vlm.dialects.json_boxes import JsonBoxes
from bird_vlm.errors import BadRequestError, BirdError, GrammarError
from bird_vlm.grammar import BOX_START, Grounding, parse_grounding
from bird_vlm.prompts import referring_prompt

_FEW_WORDS = 8  # beside label and boxes; an answer with more says more than where
_MARK = re.compile("</?ref>")
_REFERENCE = re.compile("<ref>(.*?)</ref>", re.DOTALL)
_BOX = re.compile("<box>.*?</box>", re.DOTALL)


def reworded(
    conversation: Conversation, dialect: JsonBoxes, shown: list[ShownPicture]
) -> list[Conversation]:
    """The conversation in `dialect`, then a short one for each object whose place it asks for.

    `shown` are its pictures in reading order; a box lies in the one that was shown last. Raises
    BirdError, with the record, where a box is malformed or a text holds a control token of the
    family.
    """
    try:
        exchanges, asked = [], {}
        for exchange, last in zip(conversation.exchanges, _last(conversation, shown), strict=True):
            found = place_of(exchange)
            asked |= {found.label: bool(found.boxes_norm)} if found else {}
            exchanges.append(_exchange(exchange, found, dialect, last))
        whole = replace(conversation, exchanges=tuple(exchanges))
        return [whole, *_presence(conversation, dialect, asked)]
    except (GrammarError, BadRequestError) as error:
        raise BirdError(f"{conversation.origin}: {error}; correct the record") from error


def place_of(exchange: Exchange) -> Grounding | None:
    """What the answer says of the place of one object that the question names, and no more.

    None for anything else. Raises GrammarError where a box is malformed.
    """
    if BOX_START in exchange.question:
        return None
    for box in _BOX.findall(exchange.answer):
        parse_grounding(box)
    try:
        grounding = parse_grounding(exchange.answer)
    except GrammarError:  # its boxes are sound: several objects, or words about something else
        return None
    named = _REFERENCE.search(exchange.question)
    label = " ".join((named[1] if named else grounding.label).split())
    question = _MARK.sub("", exchange.question).casefold()
    rest = _BOX.sub("", _REFERENCE.sub("", exchange.answer)).split()
    if not label or label.casefold() not in " ".join(question.split()):
        return None
    if len(rest) > _FEW_WORDS + len(label.split()):
        return None
    return Grounding(label, grounding.boxes_norm)


def _last(conversation: Conversation, shown: list[ShownPicture]) -> Iterator[ShownPicture]:
    count = 0
    for exchange in conversation.exchanges:
        count += len(exchange.pictures)
        yield shown[count - 1]


def _exchange(
    exchange: Exchange, found: Grounding | None, dialect: JsonBoxes, shown: ShownPicture
) -> Exchange:
    if found:
        question = dialect.grounding_prompt(found.label)
        answer = dialect.format(found.label, found.boxes_norm, shown)
        return Exchange(question, answer, exchange.pictures)
    refuse_marks(dialect.marks, [exchange.question, exchange.answer])
    question = _referring(exchange.question, dialect, shown)
    return Exchange(
        question or _inline(exchange.question, dialect, shown),
        _inline(exchange.answer, dialect, shown),
        exchange.pictures,
    )


def _referring(question: str, dialect: JsonBoxes, shown: ShownPicture) -> str | None:
    """The product's own question about a box, in this dialect."""
    box = _BOX.search(question)
    if box is None:
        return None
    box_norm = _box_norm(box[0])
    for task in get_args(ReferringTask):
        if question == referring_prompt(task, box_norm):
            return dialect.referring_prompt(task, box_norm, shown)
    return None


def _inline(text: str, dialect: JsonBoxes, shown: ShownPicture) -> str:
    """`text` with its boxes in this dialect, and without the marks of names."""

    def written(box: re.Match) -> str:
        numbers = dialect.grid(shown).write(_box_norm(box[0]))
        before = box.string[: box.start()]
        space = " " if before and not before[-1].isspace() else ""
        return space + json.dumps({dialect.key: numbers})

    return _BOX.sub(written, _MARK.sub("", text))


def _box_norm(box: str) -> BoxNorm:
    return parse_grounding(box).boxes_norm[0]


def _presence(
    conversation: Conversation, dialect: JsonBoxes, asked: dict[str, bool]
) -> Iterator[Conversation]:
    if len(conversation.pictures) != 1:
        return
    for label, present in asked.items():
        question = dialect.presence_question(label)
        answer = (question.yes if present else question.no)[0]
        exchange = Exchange(question.text, answer, conversation.pictures)
        yield replace(conversation, exchanges=(exchange,))
