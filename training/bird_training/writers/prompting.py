"""The words that a language model gets: prompt files filled with what is known of a picture.

A folder of prompts holds system.txt, caption.txt, questions.txt, again.txt and words.txt; a lab may
bring its own. Knows nothing about endpoints, nor whether an answer is good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from bird_training.facts import PictureFacts
from bird_training.writers.plan import Ask
from bird_training.writers.wording import MODALITY_NAMES, place_in_words, size_in_words
from bird_vlm.chat import ChatMessage
from bird_vlm.errors import BirdError

SHIPPED_PROMPTS = Path(__file__).parent / "prompts"
_MOST_ABSENT = 12  # names that a prompt holds; the checks know all
_FIELDS = {
    "system": set(),
    "caption": {"facts"},
    "questions": {"facts", "caption", "items"},
    "again": {"refused"},
}


class Prompts:
    """The templates of one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Raises BirdError where a file is missing or a template lacks or misspells a field."""
        folder = folder or SHIPPED_PROMPTS
        self._templates = {
            name: _template(folder / f"{name}.txt", fields) for name, fields in _FIELDS.items()
        }
        self.words = frozenset(_words(_read(folder / "words.txt")))

    def for_caption(self, facts: PictureFacts, refused: str = "") -> tuple[ChatMessage, ...]:
        """Step (ii) of the paper; `refused` tells what was wrong with the answer before."""
        return self._messages("caption", refused, facts=facts_as_json(facts))

    def for_questions(
        self,
        facts: PictureFacts,
        caption: str,
        asks: Mapping[int, Ask],
        in_dialogue: Sequence[int],
        refused: str = "",
    ) -> tuple[ChatMessage, ...]:
        """Step (iii): `asks` by their numbers, some of which belong to the dialogue."""
        items = [_item(n, ask, n in in_dialogue) for n, ask in asks.items()]
        lines = ",\n ".join(json.dumps(item, ensure_ascii=True) for item in items)
        return self._messages(
            "questions",
            refused,
            facts=facts_as_json(facts),
            caption=json.dumps(caption, ensure_ascii=True),
            items=f"[{lines}]",
        )

    def _messages(self, name: str, refused: str, **fields: str) -> tuple[ChatMessage, ...]:
        text = self._templates[name].substitute(fields)
        if refused:
            text += self._templates["again"].substitute(refused=refused)
        return ChatMessage("system", self._templates["system"].substitute()), ChatMessage(
            "user", text
        )


def facts_as_json(facts: PictureFacts) -> str:
    """What a language model may know: no ids, no file names, no data set."""
    known: dict[str, Any] = {"modality": MODALITY_NAMES[facts.modality]}
    known |= {"body region": facts.region} if facts.region else {}
    known |= {"plane": facts.plane} if facts.plane else {}
    known["objects"] = [
        {
            "name": placed.label,
            "box": placed.box_norm,
            "place": place_in_words(placed.box_norm),
            "size": size_in_words(placed.box_norm),
        }
        for placed in facts.objects
    ]
    known["absent"] = list(facts.absent[:_MOST_ABSENT])
    return json.dumps(known, ensure_ascii=True)


def _item(number: int, ask: Ask, in_dialogue: bool) -> dict[str, Any]:
    item = {"n": number, "task": ask.turn.task, "question": ask.turn.question}
    item["answer"] = ask.turn.answer
    return item | ({"dialogue": True} if in_dialogue else {})


def _template(path: Path, fields: set[str]) -> Template:
    template = Template(_read(path))
    found = {
        match["named"] or match["braced"]
        for match in template.pattern.finditer(template.template)
        if not match["escaped"]
    }
    if found != fields:
        wanted = ", ".join(f"${name}" for name in sorted(fields)) or "no fields"
        raise BirdError(f"prompts: {path} must hold {wanted}; write a plain dollar sign as $$")
    return template


def _words(text: str) -> list[str]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return " ".join(lines).lower().split()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BirdError(
            f"prompts: {path} cannot be read ({error}); copy the folder {SHIPPED_PROMPTS.name} of "
            "bird_training.writers and change the copy"
        ) from error
