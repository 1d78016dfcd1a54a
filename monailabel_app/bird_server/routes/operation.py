"""The routes for whoever runs the server: alive, ready, metrics. Decides nothing itself."""

from __future__ import annotations

from typing import Any

import anyio
from fastapi import APIRouter, Response

from bird_server.errors import ApiError
from bird_server.operations import metrics
from bird_server.operations.readiness import floor_from_environment, reasons_against
from bird_server.operations.shared_call import SharedCall
from bird_server.service import in_use

router = APIRouter(prefix="/bird/v1", tags=["Operations"])
STORE_ANSWERS_WITHIN_S = 5.0
_REASONS = SharedCall(lambda: reasons_against(in_use(), floor_from_environment()))
_METRICS = SharedCall(metrics.text)
_UNREADY = {
    "error": "not_ready",
    "detail": "the store cannot be written to",
    "hint": "Wait, or mend what the detail names.",
    "reasons": ["the store cannot be written to"],
}


def _shown(description: str, kind: str, example: Any) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"example": example}}}


@router.get(
    "/live",
    summary="The process answers",
    responses={200: _shown("Alive", "application/json", {"status": "live"})},
)
async def live() -> dict[str, str]:
    """That the process answers at all. Needs no token."""
    return {"status": "live"}


@router.get(
    "/ready",
    summary="The server can take work",
    responses={
        200: _shown("Ready", "application/json", {"status": "ready"}),
        503: _shown("Not ready, with the reasons", "application/json", _UNREADY),
    },
)
async def ready() -> dict[str, str]:
    """The model is loaded, the store can be written to and the disk has room. Needs no token."""
    reasons = await _reasons_in_time()
    if reasons:
        raise ApiError(
            503, "not_ready", "; ".join(reasons), _UNREADY["hint"], more={"reasons": reasons}
        )
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={200: _shown("Prometheus' text format", "text/plain", "bird_requests_total 12.0\n")},
)
async def read_metrics() -> Response:
    """Requests, seconds, jobs, stored bytes, the model, the process."""
    return Response(await _METRICS.answer(), media_type=metrics.CONTENT_TYPE)


async def _reasons_in_time() -> list[str]:
    """A disk that hangs is a reason too."""
    with anyio.move_on_after(STORE_ANSWERS_WITHIN_S):
        return await _REASONS.answer()
    return ["the store does not answer"]
