"""The routes under /bird/v1: volumes in, boxes and words out.

Turns HTTP into calls of the service and its answers into JSON; decides nothing about volumes,
models or access.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from bird_server.errors import problem_of
from bird_server.model import GroundingEvents
from bird_server.service import Service, current
from bird_vlm.contract import (
    MAX_LABELS,
    MAX_QUESTION_CHARACTERS,
    PLANES,
    GroundingRequest,
    GroundingResult,
    Progress,
    ReferringRequest,
    to_json,
)
from bird_vlm.errors import BadRequestError
from bird_vlm.version import __version__

API_VERSION = 1
logger = logging.getLogger(__name__)
router = APIRouter(prefix="/bird/v1", tags=["BiRD"])
Window = tuple[float, float]


async def service_in_use() -> Service:
    """`async` on purpose: FastAPI would hand a plain function to a worker thread."""
    return current()


InUse = Annotated[Service, Depends(service_in_use)]


class Body(BaseModel):
    """A JSON body: unknown keys are typing mistakes, numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class GroundBody(Body):
    """Fields as in `bird_vlm.contract.GroundingRequest`."""

    volume_id: str
    labels: list[str] = Field(examples=[["liver", "spleen"]])
    plane: str = "axial"
    slices: tuple[int, int] | None = None
    window: Window | None = None
    threshold: float = 0.5
    near: int | None = None
    search: str = "exhaustive"

    def request(self) -> GroundingRequest:
        fields = self.model_dump(exclude={"volume_id"})
        return GroundingRequest(**fields | {"labels": tuple(self.labels)})


class ReferBody(Body):
    """Fields as in `bird_vlm.contract.ReferringRequest`."""

    volume_id: str
    box_ras: tuple[float, float, float, float, float, float]
    task: str = "roc"
    plane: str = "axial"
    window: Window | None = None

    def request(self) -> ReferringRequest:
        return ReferringRequest(**self.model_dump(exclude={"volume_id"}))


class AskBody(Body):
    """A question in words about one slice."""

    volume_id: str
    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS)
    plane: str = "axial"
    slice: int = Field(ge=0)
    window: Window | None = None


# `async` on purpose: needs no worker thread, so it answers while all of them wait for the device.
@router.get("/health")
async def health(service: InUse) -> dict[str, Any]:
    """That the server answers, and what it can do."""
    card = service.card
    return {
        "status": "ok",
        "version": __version__,
        "api": API_VERSION,
        "model": {"id": card.id, "labels": card.labels, "device": card.device},
        "planes": list(PLANES),
        "limits": {"upload_bytes": service.store.limit_bytes, "labels": MAX_LABELS},
    }


@router.put("/volumes", status_code=201)
async def put_volume(
    name: str, request: Request, response: Response, service: InUse
) -> dict[str, Any]:
    """Stores the body, a file called `name`; the same bytes are stored once."""
    with service.store.receive(name) as upload:
        async for chunk in request.stream():
            upload.write(chunk)
        volume, is_new = await run_in_threadpool(service.keep, upload)
        volume_id = upload.volume_id
    response.status_code = 201 if is_new else 200
    return {"volume_id": volume_id, "volume": to_json(volume.geometry())}


@router.post("/ground", response_class=StreamingResponse)
def ground(body: GroundBody, service: InUse) -> StreamingResponse:
    """Where is it? One JSON object per line: progress per batch, at last the result."""
    request = body.request()
    events = service.ground(service.volume(body.volume_id), request)
    first = next(events)  # whatever is wrong with the request shows here, as a plain HTTP error
    return StreamingResponse(ndjson(first, events), media_type="application/x-ndjson")


@router.post("/refer")
def refer(body: ReferBody, service: InUse) -> dict[str, Any]:
    """What is in this box?"""
    request = body.request()
    return to_json(service.refer(service.volume(body.volume_id), request))


@router.post("/ask")
def ask(body: AskBody, service: InUse) -> dict[str, Any]:
    """A question about one slice."""
    if body.plane not in PLANES:
        raise BadRequestError(f"plane: must be one of {', '.join(PLANES)}, got {body.plane!r}")
    volume = service.volume(body.volume_id)
    return to_json(service.ask(volume, body.question, body.plane, body.slice, body.window))


async def ndjson(first: Progress | GroundingResult, rest: GroundingEvents) -> AsyncIterator[str]:
    """The events as lines; when the client leaves, the batch at work is the last one."""
    event: Progress | GroundingResult | None = first
    try:
        while event is not None:
            yield line(event_json(event))
            event = await run_in_threadpool(next, rest, None)
    except Exception as error:
        # The status line is long sent: a failure can only be told in the stream.
        logger.exception("grounding failed after its first batch")
        yield line({"event": "error", **problem_of(error).body()})
    finally:
        rest.close()


def event_json(event: Progress | GroundingResult) -> dict[str, Any]:
    if isinstance(event, GroundingResult):
        return {"event": "result", "result": to_json(event)}
    boxes = [{"label": label, **to_json(box)} for label, box in event.boxes]
    return {"event": "progress", "done": event.done, "total": event.total, "boxes": boxes}


def line(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=False) + "\n"
