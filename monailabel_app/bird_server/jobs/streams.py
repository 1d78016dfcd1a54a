"""A job's events as HTTP bodies: server-sent events, or one JSON object per line."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from bird_server.jobs.events import Event
from bird_server.jobs.job import Job
from bird_server.jobs.jobs import Jobs

ALIVE_S = 15.0  # a comment in a stream that is silent keeps proxies from closing it
LEFT_S = 0.5  # how often a client that waits for its first event is looked for


async def server_sent_events(job: Job, after: int) -> AsyncIterator[str]:
    """The events after number `after`, to the last; leaving does not touch the job.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    async for event in job.log.follow(after, ALIVE_S):
        if event is None:
            yield ": alive\n\n"
        else:
            yield f"id: {event_id(job, event)}\nevent: {event.name}\ndata: {event.data}\n\n"


async def json_lines(job: Job, jobs: Jobs) -> AsyncIterator[str]:
    """All events; whoever leaves before the end cancels the job."""
    try:
        async for event in job.log.follow(0, ALIVE_S):
            if event is not None:
                yield event.data + "\n"
    finally:
        jobs.cancel(job)


async def first_event(job: Job, jobs: Jobs, request: Request) -> Event:
    """As soon as there is one. Raises ClientDisconnect, and cancels, where the client leaves."""
    async for event in job.log.follow(0, LEFT_S):
        if event is not None:
            return event
        if await request.is_disconnected():
            jobs.cancel(job)
            raise ClientDisconnect
    raise RuntimeError("a log ended without an event")


def event_id(job: Job, event: Event) -> str:
    """Unique over restarts of the server, which begin a job anew."""
    return f"{job.attempt}-{event.number}"


def number_after(job: Job, last_id: str) -> int:
    """Where a listener goes on that has read up to `last_id`; 0 = all, also for another attempt.

    >>> number_after(Job("ask", lambda: None), "1-7"), number_after(Job("ask", lambda: None), "2-7")
    (7, 0)
    """
    attempt, _, number = last_id.partition("-")
    is_ours = attempt == str(job.attempt) and number.isascii() and number.isdigit()
    return int(number) if is_ours and len(number) < 10 else 0
