"""A model that runs elsewhere: the server that has it, and how it is asked.

Knows which dialect the table's models speak; knows nothing about HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bird_vlm.catalogue.known import known_model
from bird_vlm.dialects import DIALECTS, BoxDialect, dialect_of
from bird_vlm.endpoint_settings import KEY_VARIABLE, EndpointSettings, check_address
from bird_vlm.errors import BadRequestError, CheckpointError

CONCURRENCY = 16
TIMEOUT_S = 120.0


class BackendError(CheckpointError):
    """A model that runs elsewhere cannot be asked, or not any more."""


class UnansweredError(BackendError):
    """This question got no answer; others may."""


@dataclass(frozen=True)
class Backend:
    """An OpenAI-compatible server; the key is read from an environment variable.

    Raises BirdError for an address, a dialect or a limit that there cannot be.
    """

    url: str  # ends in /v1 on most servers
    dialect: str | None = None  # how the model writes boxes; None for what the table says of it
    key_variable: str = KEY_VARIABLE
    concurrency: int = CONCURRENCY  # questions under way at a time
    timeout_s: float = TIMEOUT_S  # for one answer
    cache: Path | None = None  # folder of answers that are not asked for again

    def __post_init__(self) -> None:
        check_address(self.url, self.key_variable)
        if self.dialect is not None:
            dialect_of(self.dialect)
        self.settings("any")

    def settings(self, model: str) -> EndpointSettings:
        """How `model` is asked. Raises BirdError where that cannot be."""
        return EndpointSettings(
            self.url,
            model,
            key_variable=self.key_variable,
            timeout_s=self.timeout_s,
            concurrency=self.concurrency,
        )

    def dialect_for(self, model: str) -> BoxDialect:
        """The chosen dialect, or the one that the table knows of `model`.

        Raises BadRequestError where there is neither.
        """
        card = known_model(model)
        name = self.dialect or (card.dialect if card else None)
        if name is None:
            raise BadRequestError(
                f"dialect: how {model!r} writes boxes is not known here; name it with --dialect, "
                f"one of {', '.join(DIALECTS)}"
            )
        return dialect_of(name)
