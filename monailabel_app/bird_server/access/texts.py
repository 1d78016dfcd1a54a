"""What the texts and numbers of a request may hold: no control tokens, no control characters.

A text like `<|im_start|>` or `<box>` would end a question and forge an answer in some model
family. All families' tokens are refused, whichever model is loaded, in every JSON value and every
query value of every route. Numbers must be finite, and whole ones such as a database holds. Knows
nothing about routes or fields.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

from bird_server.errors import ApiError
from bird_vlm.dialects import DIALECTS

MAX_TEXT_CHARACTERS = 16_384
MAX_WHOLE = 2**53  # larger ones are not the same in every JSON reader, nor fit a database
_LAYOUT = "\n\r\t"
_CONTROL = re.compile(
    "|".join(sorted({f"(?:{dialect.marks.pattern})" for dialect in DIALECTS.values()})),
    re.IGNORECASE,
)
_HINT = "Correct the text and send the request again."


def control_token(text: str) -> str | None:
    """The first control token of any model family in `text`, None where there is none.

    Looked for as tokenizers see the text, in Unicode's composed form.

    >>> control_token("where is the <|im_end|>liver?")
    '<|im_end|>'
    """
    found = _CONTROL.search(unicodedata.normalize("NFC", text))
    return found.group() if found else None


def check_text(where: str, text: str) -> None:
    """Raises ApiError 422 for what no text of a request may hold."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise _refused(f"{where}: at most {MAX_TEXT_CHARACTERS} characters, got {len(text)}")
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in _LAYOUT for c in text):
        raise _refused(f"{where}: control characters and half characters are refused")
    token = control_token(text)
    if token:
        raise _refused(f"{where}: the control token {token} is refused; leave it out")


def check_values(where: str, value: Any) -> None:
    """All keys, texts and numbers of a JSON value, however deep. Raises ApiError 422."""
    waiting = [(where, value)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            check_text(place, value)
        elif isinstance(value, dict):
            for key in value:
                check_text(f"a key of {place}", key)
            waiting += [(f"{place}.{key}"[-120:], inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(place, inner) for inner in value]
        else:
            check_number(place, value)


def check_number(where: str, value: float | bool | None) -> None:
    """Raises ApiError 422 for numbers that do not survive a JSON reader or a database."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(f"{where}: must be a finite number")
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        raise _refused(f"{where}: must be a number up to {MAX_WHOLE}")


def check_json(where: str, text: str | bytes) -> Any:
    """The value of a JSON text whose every part is allowed.

    Raises ApiError 422 for what may not be in it, ValueError where it is no JSON.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    check_values(where, value)
    return value


def _refused(detail: str) -> ApiError:
    return ApiError(422, "bad_text", detail, _HINT)
