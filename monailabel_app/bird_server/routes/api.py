"""The routes under /bird/v1: volumes in, boxes and words out.

Turns HTTP into calls of the service and its answers into JSON; decides nothing about volumes,
models or access. One question, one answer: `/ground`, `/refer` and `/ask` are jobs that end with
the connection; those that outlive it are submitted to `/jobs`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from bird_server.jobs import routes as job_routes
from bird_server.jobs.job import Job
from bird_server.jobs.questions import AskQuestion, GroundQuestion, Question, ReferQuestion
from bird_server.jobs.routes import Client, told_result
from bird_server.jobs.stopping import told_before_the_end
from bird_server.jobs.streams import first_event, json_lines
from bird_server.routes.dependencies import ServiceInUse
from bird_server.routes.route_errors import failures
from bird_server.routes.volumes import router as volume_router
from bird_server.routes.wire import LINES, AskedJson, HealthJson, ReferredJson, health_of
from bird_server.service import Service, in_use

JOB_HEADER = "X-BiRD-Job"


@asynccontextmanager
async def jobs_of_this_server(_app: FastAPI) -> AsyncIterator[None]:
    """From the first request to the last: jobs are taken up, and ended with the server."""
    service = in_use()
    if service is None:
        yield
        return
    await run_in_threadpool(service.jobs.restore)
    with told_before_the_end(service.jobs.stop):
        yield
    await run_in_threadpool(service.close)


router = APIRouter(prefix="/bird/v1", tags=["BiRD"], lifespan=jobs_of_this_server)


# `async` on purpose: needs no worker thread, so it answers whatever the others do.
@router.get("/health", summary="What the server can do", response_model=HealthJson)
async def health(service: ServiceInUse) -> dict[str, Any]:
    """That the server answers; its model, its tasks, and the limits of what it takes."""
    return health_of(service)


@router.post(
    "/ground",
    summary="Where is it?",
    response_class=StreamingResponse,
    responses={200: LINES, **failures(404, 422, 429, 503)},
)
async def ground(
    question: Annotated[GroundQuestion, Body()],
    request: Request,
    service: ServiceInUse,
    client: Client,
) -> StreamingResponse:
    """One JSON object per line: progress per batch of slices, at last the result.

    Leaving cancels before the next batch.
    """
    job = await answered(question, request, service, client)
    lines = json_lines(job, service.jobs)
    headers = {JOB_HEADER: job.job_id}
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


@router.post(
    "/refer",
    summary="What is in this box?",
    response_model=ReferredJson,
    responses=failures(404, 422, 429, 503),
)
async def refer(
    question: Annotated[ReferQuestion, Body()],
    request: Request,
    service: ServiceInUse,
    client: Client,
) -> Response:
    """Its name (`roc`) or a description (`rc`), from the slice in the middle of the box."""
    return only_result(await answered(question, request, service, client))


@router.post(
    "/ask",
    summary="Ask about a slice",
    response_model=AskedJson,
    responses=failures(404, 422, 429, 503),
)
async def ask(
    question: Annotated[AskQuestion, Body()],
    request: Request,
    service: ServiceInUse,
    client: Client,
) -> Response:
    """A question in words about one slice, answered in words."""
    return only_result(await answered(question, request, service, client))


async def answered(question: Question, request: Request, service: Service, client: str) -> Job:
    """A job that has told something; what is wrong with the question is a plain HTTP error."""
    job = await run_in_threadpool(service.jobs.submit, question, client, durable=False)
    first = await first_event(job, service.jobs, request)
    if first.name not in ("progress", "result"):
        told_result(job)
    return job


def only_result(job: Job) -> Response:
    fields = json.loads(told_result(job))
    headers = {JOB_HEADER: job.job_id}
    return Response(json.dumps(fields["result"]), 200, headers, "application/json")


router.include_router(volume_router)
router.include_router(job_routes.router)
