"""Names of objects, as people and datasets write them, in one spelling.

Knows nothing about what a model was trained on.
"""

from __future__ import annotations

import re
from itertools import dropwhile

_SIDES = ("left", "right")
_MIRRORED = {"left": "right", "right": "left"}
_ARTICLES = ("the", "a", "an")
_SEPARATORS = re.compile(r"[_\s(),;:.?!]+")


def natural_name(label: str) -> str:
    """The words a radiologist would use: lower case, no underscores or articles, the side first.

    >>> natural_name("kidney_right"), natural_name("Right  Kidney")
    ('right kidney', 'right kidney')
    >>> natural_name("rib_left_7"), natural_name("benign_breast_tumour")
    ('left rib 7', 'benign breast tumor')
    >>> natural_name("the kidney (left)")
    'left kidney'
    """
    words = _SEPARATORS.sub(" ", label).lower().replace("tumour", "tumor").split()
    words = list(dropwhile(_ARTICLES.__contains__, words)) or words
    sides = [word for word in words if word in _SIDES]
    return " ".join(sides + [word for word in words if word not in _SIDES])


def side_of(name: str) -> str:
    """ "left" or "right" where a natural name starts with it, "" otherwise."""
    first = name.split(" ", 1)[0]
    return first if first in _SIDES else ""


def mirrored_name(name: str) -> str:
    """What a mirror makes of a natural name.

    >>> mirrored_name("left kidney"), mirrored_name("liver")
    ('right kidney', 'liver')
    """
    return " ".join(_MIRRORED.get(word, word) for word in name.split())


def without_side(name: str) -> str:
    """A natural name without "left" or "right".

    >>> without_side("left kidney")
    'kidney'
    """
    return " ".join(word for word in name.split() if word not in _SIDES)
