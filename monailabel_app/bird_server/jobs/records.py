"""A job as the journal keeps it, and the job of such a record.

Knows nothing about files.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from bird_server.jobs.job import Job
from bird_server.jobs.questions import ANY_QUESTION
from bird_server.jobs.steps import Desk, steps_of

_LAST_EVENT = {"done": "result", "failed": "error", "cancelled": "cancelled"}
_AS_IT_ENDED = ("failure", "started", "finished", "done", "total")


class BadRecordError(ValueError):
    """A record that this version cannot read."""


def record_of(job: Job, end: dict[str, Any] | None) -> dict[str, Any]:
    """JSON; `end` has the fields of its last event, None while it goes on."""
    return job.json() | {
        "client": job.client,
        "question": job.question.model_dump(mode="json"),
        "failure": job.failure,
        "end": None if end is None else {"event": _LAST_EVENT[job.state], "fields": end},
    }


def job_of(record: dict[str, Any], desk: Desk) -> Job:
    """Over, as it ended, or at the beginning of its next attempt. Raises BadRecordError."""
    try:
        question = ANY_QUESTION.validate_python(record["question"])
        steps = partial(steps_of, question, desk)
        job = Job(question.kind, steps, record["client"], question, record["job_id"])
        job.durable, job.created, job.attempt = True, record["created"], record["attempt"]
        if record["end"]:
            job.end(record["state"], record["end"]["event"], dict(record["end"]["fields"]), None)
            for name in _AS_IT_ENDED:
                setattr(job, name, record[name])
        elif record["started"]:
            job.attempt += 1
    except (ValueError, KeyError, TypeError) as error:
        raise BadRecordError(str(error)) from error
    return job
