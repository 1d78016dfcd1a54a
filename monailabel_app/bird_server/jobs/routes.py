"""The routes of jobs: submit, list, follow, fetch, cancel. Decides nothing itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from bird_server.errors import ApiError
from bird_server.jobs.answers import EVENTS, JobJson, JobsJson, ResultJson
from bird_server.jobs.errors import JobCancelledError, JobNotFinishedError, StoppingError
from bird_server.jobs.job import Job, State
from bird_server.jobs.jobs import Jobs
from bird_server.jobs.questions import AnyQuestion
from bird_server.jobs.streams import number_after, server_sent_events
from bird_server.routes.route_errors import failures
from bird_server.service import current

router = APIRouter(prefix="/jobs")
_EXAMPLE_ID = "0d9f2c3b4a5e6f708192a3b4c5d6e7f8"
JobId = Annotated[str, Path(description="from POST /bird/v1/jobs", examples=[_EXAMPLE_ID])]


async def jobs_in_use() -> Jobs:
    """`async` on purpose: FastAPI would hand a plain function to a worker thread."""
    return current().jobs


async def client_of(
    request: Request,
    x_bird_client: Annotated[
        str | None,
        Header(
            max_length=64,
            pattern="^[ -~]+$",
            description="Who asks: clients get their batches in turn. Otherwise the address.",
            examples=["reading room 2"],
        ),
    ] = None,
) -> str:
    return x_bird_client or (request.client.host if request.client else "")


InUse = Annotated[Jobs, Depends(jobs_in_use)]
Client = Annotated[str, Depends(client_of)]


async def job_named(job_id: JobId, jobs: InUse) -> Job:
    return jobs.get(job_id)


Named = Annotated[Job, Depends(job_named)]


@router.post(
    "",
    status_code=202,
    summary="Submit a question",
    response_model=JobJson,
    responses=failures(404, 422, 429, 503, 507),
)
async def submit(
    question: Annotated[AnyQuestion, Body()], jobs: InUse, client: Client, response: Response
) -> dict[str, Any]:
    """Takes a question on, to be answered when its turn comes, also over a restart."""
    job = await run_in_threadpool(jobs.submit, question, client)
    response.headers["Location"] = f"/bird/v1/jobs/{job.job_id}"
    return shown(job, jobs)


@router.get("", summary="List the jobs", response_model=JobsJson, responses=failures(422))
async def list_jobs(
    jobs: InUse, state: Annotated[State | None, Query(examples=["running"])] = None
) -> dict[str, Any]:
    """Those that are kept, the oldest first."""
    return {"jobs": [shown(job, jobs) for job in jobs.all(state)]}


@router.get(
    "/{job_id}", summary="How far a job is", response_model=JobJson, responses=failures(404, 422)
)
async def one(job: Named, jobs: InUse) -> dict[str, Any]:
    """State, progress, and why it failed."""
    return shown(job, jobs)


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={200: EVENTS, **failures(404, 422)},
)
async def events(
    job: Named,
    last_event_id: Annotated[str, Header(max_length=40, examples=["1-7"])] = "",
    after: Annotated[str, Query(max_length=40, examples=["1-7"])] = "",
) -> StreamingResponse:
    """Server-sent events, one per batch of slices, up to the result.

    A stream that broke off goes on after the event whose id is in `Last-Event-ID` or `after`.
    """
    number = number_after(job, last_event_id or after)
    stream = server_sent_events(job, number)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get(
    "/{job_id}/result",
    summary="Fetch the result",
    response_model=ResultJson,
    responses=failures(404, 409, 422, 503),
)
async def result(job: Named) -> Response:
    """What the job ended with; a job that failed is answered with its own error."""
    return Response(told_result(job), media_type="application/json")


@router.delete(
    "/{job_id}", summary="Cancel a job", response_model=JobJson, responses=failures(404, 422)
)
async def cancel(job: Named, jobs: InUse) -> dict[str, Any]:
    """Before its next batch of slices; one that is over is forgotten."""
    if job.is_over:
        await run_in_threadpool(jobs.forget, job)
    else:
        await run_in_threadpool(jobs.cancel, job)
    return shown(job, jobs)


def shown(job: Job, jobs: Jobs) -> dict[str, Any]:
    return job.json(jobs.queue.ahead(job))


def told_result(job: Job) -> str:
    """The fields of the last event, as JSON.

    Raises JobNotFinishedError, JobCancelledError, StoppingError, or the job's own failure.
    """
    last = job.log.last
    if last is None:
        raise JobNotFinishedError(f"job {job.job_id} is {job.state}, {job.done} done")
    if last.name == "stopped":
        raise StoppingError("the server stops; the job goes on when it has started again")
    if job.state == "cancelled":
        raise JobCancelledError(f"job {job.job_id} was cancelled")
    if job.failure is not None:
        failure = job.failure
        told = [failure[name] for name in ("status", "error", "detail", "hint")]
        raise ApiError(*told)
    return last.fields
