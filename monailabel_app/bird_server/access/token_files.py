"""Where the server's tokens come from: an option, a file, or the environment.

A file keeps a token out of the list of processes. Knows nothing about requests.
"""

from __future__ import annotations

import os
from pathlib import Path

from bird_vlm.errors import BirdError

MAX_TOKEN_CHARACTERS = 512


class TokenError(BirdError):
    """A token that no header can carry, or a file that holds none."""


def token_of(option: str, given: str | None, file: Path | None, variable: str) -> str | None:
    """The token of one role: as given, else from `file`, else from the environment's `variable`.

    Raises TokenError, which names `option`.
    """
    if given and file:
        raise TokenError(f"{option}: give the token or {option}-file, not both")
    if file is not None:
        return read_token(f"{option}-file", file)
    token = given or os.environ.get(variable) or None
    if token is not None:
        check_token(option, token)
    return token


def read_token(option: str, file: Path) -> str:
    """The one line of a token file. Raises TokenError."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise TokenError(f"{option} {file}: cannot be read ({reason})") from error
    if len(lines) != 1 or not lines[0].strip():
        raise TokenError(f"{option} {file}: needs one line, the token; it has {len(lines)}")
    token = lines[0].strip()
    check_token(option, token)
    return token


def check_token(option: str, token: str) -> None:
    """Raises TokenError for what no header can carry. The token itself is never in the message."""
    printable = token.isascii() and token.isprintable() and " " not in token
    if not printable or len(token) > MAX_TOKEN_CHARACTERS:
        raise TokenError(
            f"{option}: needs 1 to {MAX_TOKEN_CHARACTERS} printable ASCII characters without spaces"
        )
