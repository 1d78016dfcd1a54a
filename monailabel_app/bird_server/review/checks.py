"""What names and texts that people give may hold. Knows nothing about what they are for."""

from __future__ import annotations

from bird_vlm.errors import BadRequestError

MAX_NAME_CHARACTERS = 255
MAX_COMMENT_CHARACTERS = 4000


def check_name(argument: str, value: str) -> None:
    """Raises BadRequestError unless `value` is one printable line of 1 to 255 characters."""
    if not value.strip() or len(value) > MAX_NAME_CHARACTERS or not value.isprintable():
        raise BadRequestError(
            f"{argument}: needs one line of 1 to {MAX_NAME_CHARACTERS} printable characters, "
            f"got {value[:40]!r}"
        )


def check_text(argument: str, value: str, least: int = 0) -> None:
    """Raises BadRequestError unless `value` is printable lines of at most 4000 characters."""
    lines_printable = all(c.isprintable() or c in "\n\t" for c in value)
    if not least <= len(value.strip()) or len(value) > MAX_COMMENT_CHARACTERS:
        raise BadRequestError(
            f"{argument}: needs {least} to {MAX_COMMENT_CHARACTERS} characters, got {len(value)}"
        )
    if not lines_printable:
        raise BadRequestError(f"{argument}: control characters are refused, got {value[:40]!r}")
