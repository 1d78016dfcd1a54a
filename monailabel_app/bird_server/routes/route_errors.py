"""How failures look in the OpenAPI. Knows nothing about what fails."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

_SAID = {
    400: "The file's name is no plain name of a known format.",
    408: "The body came too slowly.",
    413: "Too many bytes.",
    404: "There is no such thing here.",
    409: "Somebody else was first; `present` holds what stands now.",
    422: "An argument is not what it must be; the detail names it.",
    429: "The server has enough to do; `Retry-After` tells when to ask again.",
    503: "The store is busy or damaged, or the model is not there.",
    507: "The disk is full; nothing was stored.",
}


class ProblemJson(BaseModel):
    """Every failure of this server."""

    error: str = Field(examples=["bad_request"], description="for programs")
    detail: str = Field(examples=["revision: must be 1 or more"], description="what happened")
    hint: str = Field(examples=["Correct the named argument and send the request again."])


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`."""
    return {status: {"model": ProblemJson, "description": _SAID[status]} for status in statuses}
