"""What a sentence claims about a picture, as far as a machine can tell.

A text is taken apart into names of objects, words of place, size, number, modality and plane, words
of negation, and the rest. Knows nothing about questions or language models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bird_training.writers.wording import number_in_words
from bird_vlm.contract import PLANES

_PLACES = {
    "upper": "upper",
    "top": "upper",
    "lower": "lower",
    "bottom": "lower",
    "left": "left",
    "right": "right",
    "centre": "centre",
    "center": "centre",
    "central": "centre",
    "centrally": "centre",
    "centred": "centre",
    "centered": "centre",
    "middle": "centre",
}
_SIZES = {"small", "medium-sized", "large"}
_NUMBERS = {number_in_words(number): number for number in range(1, 10)}
_NEGATIONS = {"no", "not", "none", "nothing", "without", "never", "neither", "nor", "absent"}
_NEGATIONS |= {"cannot", "isn't", "aren't", "doesn't", "don't", "can't"}
_PLANES = set(PLANES)
_MODALITIES = {
    "ct": "ct",
    "computed tomography": "ct",
    "mr": "mr",
    "mri": "mr",
    "magnetic resonance": "mr",
    "x-ray": "x",
    "radiograph": "x",
    "pet": "pet",
    "positron emission tomography": "pet",
    "endoscopy": "endoscopy",
    "endoscopic": "endoscopy",
    "dermoscopy": "dermoscopy",
    "dermoscopic": "dermoscopy",
    "fundus": "fundus",
    "ultrasound": "ultrasound",
    "sonography": "ultrasound",
    "ultrasonography": "ultrasound",
}
_BORDERS = {"and", "while", "with", "but", "or"}  # of clauses, beside punctuation


@dataclass(frozen=True)
class Claims:
    """What one text, or one clause of it, says."""

    labels: tuple[str, ...]  # in the order of the text
    places: frozenset[str]
    sizes: frozenset[str]
    numbers: frozenset[int]
    modalities: frozenset[str]
    planes: frozenset[str]
    regions: frozenset[str]
    negated: bool
    others: tuple[str, ...]  # words that are none of the above


class ClaimReader:
    """Reads texts about pictures whose objects and regions have these names."""

    def __init__(self, labels: Iterable[str], regions: Iterable[str]) -> None:
        self._labels = frozenset(labels) - {""}
        self._regions = frozenset(regions) - {""}
        names = sorted(self._labels | self._regions | set(_MODALITIES), key=len, reverse=True)
        self._token = re.compile(
            rf"(?<![\w-])(?P<name>{'|'.join(map(re.escape, names))})(?:s|es)?(?![\w-])"
            r"|(?P<word>medium-sized|[^\W\d_]+(?:'[^\W\d_]+)*|\d+)|(?P<border>[.;:!?,])"
        )

    def read(self, text: str) -> Claims:
        """All that the text says."""
        return self._claims(list(self._token.finditer(text.lower())))

    def clauses(self, text: str) -> list[Claims]:
        """Clause by clause; one without an object belongs to the one before it, or else after."""
        clauses: list[list[re.Match[str]]] = []
        lead: list[re.Match[str]] = []
        for part in self._parts(text):
            if any(token["name"] in self._labels for token in part):
                clauses.append(lead + part)
                lead = []
            elif clauses:
                clauses[-1] += part
            else:
                lead += part
        return [self._claims(tokens) for tokens in (clauses or [lead])]

    def _parts(self, text: str) -> Iterator[list[re.Match[str]]]:
        part: list[re.Match[str]] = []
        for token in self._token.finditer(text.lower()):
            if token["border"] or token["word"] in _BORDERS:
                yield part
                part = []
            else:
                part.append(token)
        yield part

    def _claims(self, tokens: Sequence[re.Match[str]]) -> Claims:
        names = [token["name"] for token in tokens if token["name"]]
        words = [token["word"] for token in tokens if token["word"]]
        special = (_PLACES, _SIZES, _NUMBERS, _PLANES, _NEGATIONS)
        return Claims(
            labels=tuple(name for name in names if name in self._labels),
            places=frozenset(_PLACES[word] for word in words if word in _PLACES),
            sizes=frozenset(word for word in words if word in _SIZES),
            numbers=frozenset(map(_number, filter(_is_number, words))),
            modalities=frozenset(_MODALITIES[name] for name in names if name in _MODALITIES),
            planes=frozenset(word for word in words if word in _PLANES),
            regions=frozenset(name for name in names if name in self._regions),
            negated=any(word in _NEGATIONS for word in words),
            others=tuple(
                word
                for word in words
                if not _is_number(word) and not any(word in kind for kind in special)
            ),
        )


def places_of(place: str) -> frozenset[str]:
    """The words of a place.

    >>> sorted(places_of("upper left part"))
    ['left', 'upper']
    """
    return frozenset(_PLACES[word] for word in place.split() if word in _PLACES)


def _is_number(word: str) -> bool:
    return word in _NUMBERS or word.isdigit()


def _number(word: str) -> int:
    return _NUMBERS[word] if word in _NUMBERS else int(word)
