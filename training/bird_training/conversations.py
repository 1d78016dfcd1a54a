"""Conversations about pictures, as released Med-GRIT files hold them.

A file is one JSON list; it is read record by record from a memory map, so its size does not
matter. Example record:

    {"id": "ct_00--BTCV--p01--z_0001", "image": "images/ct_00--BTCV--p01--z_0001.png",
     "conversations": [["Picture 1: <img>images/ct_00--BTCV--p01--z_0001.png</img>\\nWhere is the
     <ref>liver</ref> located in this image?", "<ref>liver</ref> is located at ..."]]}

Knows nothing about tokens or tensors.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bird_vlm.errors import BirdError
from bird_vlm.grammar import BOX_START

_MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_PICTURE = re.compile(r"(?:Picture\s+\d+:\s*)?<img>(.*?)</img>\n?", re.DOTALL)
_NAMED = re.compile(r"<ref>(.*?)</ref>", re.DOTALL)


@dataclass(frozen=True)
class Exchange:
    """One question and its answer; `pictures` are those that the question brings in."""

    question: str
    answer: str
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Conversation:
    """One record; its first exchange has at least one picture."""

    id: str
    origin: str  # file and record number, for messages
    exchanges: tuple[Exchange, ...]

    @property
    def pictures(self) -> tuple[Path, ...]:
        """All pictures in reading order."""
        return tuple(path for exchange in self.exchanges for path in exchange.pictures)

    @property
    def modality(self) -> str:
        return self.id.partition("_")[0]

    def messages(self) -> list[dict[str, Any]]:
        """What a processor's chat template takes; pictures have places, no pixels."""
        said = []
        for exchange in self.exchanges:
            content = [{"type": "image"} for _ in exchange.pictures]
            said.append(
                {"role": "user", "content": [*content, {"type": "text", "text": exchange.question}]}
            )
            said.append({"role": "assistant", "content": exchange.answer})
        return said

    def labels(self) -> set[str]:
        """Names between <ref> marks in answers that place something: what the pictures show."""
        placing = [e.answer for e in self.exchanges if BOX_START in e.answer]
        return {" ".join(name.split()) for text in placing for name in _NAMED.findall(text)}


def conversation_files(data: Path) -> list[Path]:
    """The JSON files of a side: `data` itself, or all of a folder (or of its `train`).

    Raises BirdError where there is no such file.
    """
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise BirdError(f"data: {data} does not exist; give what `medgrit build` wrote")
    files = sorted(data.glob("*.json")) or sorted(data.glob("train/*.json"))
    if not files:
        raise BirdError(
            f"data: {data} holds no .json files; give the train folder that `medgrit build` wrote, "
            "or one released file"
        )
    return files


def read_conversations(
    files: Sequence[Path], images: Path | None = None, control_tokens: Iterable[str] = ()
) -> Iterator[Conversation]:
    """Every record of the files, checked.

    Pictures are looked for under `images`, the file's folder and that folder's parent. Raises
    BirdError, with the file and the record's number, where a file is no whole JSON list, a record
    lacks a part or a picture's file, or a text holds one of `control_tokens`.
    """
    control = tuple(control_tokens)
    for file in files:
        finder = _PictureFinder([*filter(None, [images]), file.parent, file.parent.parent])
        for number, record in enumerate(stream_records(file), start=1):
            origin = f"{file}, record {number}"
            yield _conversation(record, origin, finder, control)


def stream_records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list one by one; memory does not grow with the file.

    Raises BirdError where the file is absent, empty, cut off or not a list of objects.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            for number, (start, end) in enumerate(_spans(text, path), start=1):
                yield _parsed(text[start:end], f"{path}, record {number}")
    except (OSError, ValueError) as error:
        if isinstance(error, BirdError):
            raise
        reason = "is empty" if path.is_file() and not path.stat().st_size else f"{error}"
        raise BirdError(f"{path}: cannot be read ({reason}); build or fetch it again") from error


def _spans(text: mmap.mmap, path: Path) -> Iterator[tuple[int, int]]:
    """Where the objects of the outermost list begin and end, in bytes."""
    depth = start = 0
    opened = False
    for mark in _MARKS.finditer(text):
        sign = mark[0][:1]
        if (depth == 1 and sign not in b"{]") or (not opened and sign != b"["):
            raise BirdError(f"{path}: is not a JSON list of objects; give a released Med-GRIT file")
        opened = True
        if sign in b"[{":
            start = mark.start() if depth == 1 else start
            depth += 1
        elif sign in b"]}":
            depth -= 1
            if depth == 1:
                yield start, mark.end()
    if not opened:
        raise BirdError(f"{path}: is not a JSON list of objects; give a released Med-GRIT file")
    if depth:
        raise BirdError(f"{path}: is cut off; build or fetch it again")


def _parsed(text: bytes, origin: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BirdError(f"{origin}: is not JSON ({error})") from error


class _PictureFinder:
    """Paths as records write them -> files that exist."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(dict.fromkeys(roots))
        self.found: dict[str, Path] = {}

    def __call__(self, written: str, origin: str) -> Path:
        if written not in self.found:
            self.found[written] = self._find(written, origin)
        return self.found[written]

    def _find(self, written: str, origin: str) -> Path:
        names = (written, Path(written).name)  # the second: made on another machine
        for path in (root / name for name in names for root in self.roots):
            if path.is_file():
                return path
        places = ", ".join(map(str, self.roots))
        raise BirdError(
            f"{origin}: picture {written!r} is in none of {places}; name its folder with --images"
        )


def _conversation(
    record: dict[str, Any], origin: str, finder: _PictureFinder, control: tuple[str, ...]
) -> Conversation:
    name, pairs = record.get("id"), record.get("conversations")
    if not isinstance(name, str) or not name:
        raise BirdError(f"{origin}: 'id' must be a text, got {name!r}")
    origin = f"{origin} ({name})"
    if not _are_pairs(pairs):
        raise BirdError(f"{origin}: 'conversations' must be a list of [question, answer] texts")
    shown: set[str] = set()
    exchanges = [_exchange(q, a, origin, finder, control, shown) for q, a in pairs]
    if not exchanges[0].pictures:
        written = record.get("image") or f"{name}.png"
        exchanges[0] = Exchange(
            exchanges[0].question, exchanges[0].answer, (finder(str(written), origin),)
        )
    return Conversation(name, origin, tuple(exchanges))


def _are_pairs(pairs: object) -> bool:
    return (
        isinstance(pairs, list)
        and bool(pairs)
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(text, str) for text in pair)
            for pair in pairs
        )
    )


def _exchange(
    asked: str,
    answer: str,
    origin: str,
    finder: _PictureFinder,
    control: tuple[str, ...],
    shown: set[str],
) -> Exchange:
    """A picture that was shown before in the conversation is not shown again."""
    written = [path.strip() for path in _PICTURE.findall(asked)]
    fresh = [path for path in dict.fromkeys(written) if path not in shown]
    shown.update(fresh)
    question, answer = _PICTURE.sub("", asked).strip(), answer.strip()
    if not question or not answer:
        raise BirdError(f"{origin}: a question and its answer must not be empty")
    for token in control:
        if token in question or token in answer:
            raise BirdError(f"{origin}: the control token {token} in a text; take it out")
    return Exchange(question, answer, tuple(finder(path, origin) for path in fresh))
