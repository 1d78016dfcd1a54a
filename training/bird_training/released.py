"""The released format: one JSON list per task, as the authors' evaluation scripts read it.

    [
    {"id": "ct_00--BTCV--p01--z_0001", "image": "images/ct_00--BTCV--p01--z_0001.png",
     "conversations": [["Picture 1: <img>images/ct_00--BTCV--p01--z_0001.png</img>\\nWhere is ...?",
     "<ref>liver</ref><box>(52,180),(611,790)</box>"]]},
    ...
    ]

The modality is the id's text before its first "_". An entry of a task's file is one question, so an
id comes several times; an entry of dialogues.json is one conversation, whose first question shows
the picture. An entry a line, written one by one: memory does not grow with the file. Reading is in
`conversations.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bird_training.facts import Turn

CAPTION_QUESTION = "Describe this image."


def entry(picture_id: str, image: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """One conversation of one or more turns about a picture.

    `image` is its path relative to the build's folder, with forward slashes.
    """
    shown = f"Picture 1: <img>{image}</img>\n"
    pairs = [[turn.question, turn.answer] for turn in turns]
    pairs[0][0] = shown + pairs[0][0]
    return {"id": picture_id, "image": image, "conversations": pairs}


class JsonListFile:
    """A JSON list that grows on disk; the file appears, whole, when all went well.

    Use as a context manager; `lines` writes JSON lines instead of a list.
    """

    def __init__(self, path: Path, *, lines: bool = False) -> None:
        self.path, self.lines = path, lines
        self.count = 0
        self._unfinished = path.with_name(f".{path.name}.unfinished")

    def __enter__(self) -> JsonListFile:
        self._file = self._unfinished.open("w", encoding="utf-8", newline="\n")
        self._file.write("" if self.lines else "[")
        return self

    def add(self, item: Any) -> None:
        separator = "" if self.lines else ",\n" if self.count else "\n"
        end = "\n" if self.lines else ""
        self._file.write(separator + json.dumps(item, ensure_ascii=False, allow_nan=False) + end)
        self.count += 1

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._file.write("" if self.lines else "\n]\n")
        self._file.close()
        if kind is None:
            self._unfinished.replace(self.path)
        else:
            self._unfinished.unlink()
