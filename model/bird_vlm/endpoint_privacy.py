"""Keeps a user's words out of what a server complains: complaints go to logs.

Knows errors; knows nothing about what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bird_vlm.endpoint_errors import EndpointError

_WORD = re.compile(r"\w{3,}")  # shorter ones tell nothing, and stand in every sentence


def without_words(error: EndpointError, words: Sequence[str]) -> str:
    """The error's message, without the server's own words where these quote any of `words`.

    A complaint may be cut off in the middle of what it quotes, so one word in common is enough.
    """
    said = {word.casefold() for word in _WORD.findall(error.said)}
    asked = {word.casefold() for text in words for word in _WORD.findall(text)}
    if not said & asked:
        return str(error)
    return str(error).replace(error.said, ", in words that quote the question, left out here")
