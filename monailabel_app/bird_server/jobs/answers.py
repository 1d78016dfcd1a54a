"""What the routes of jobs answer, for the OpenAPI and its readers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bird_server.jobs.job import State
from bird_server.jobs.questions import Kind

_JOB = {
    "job_id": "0d9f2c3b4a5e6f708192a3b4c5d6e7f8",
    "kind": "ground",
    "state": "running",
    "done": 31,
    "total": 120,
    "created": "2026-01-31T10:00:00.000+00:00",
    "started": "2026-01-31T10:00:00.012+00:00",
    "finished": None,
    "attempt": 1,
    "ahead": 0,
    "error": None,
}
_RESULT = {
    "result": {
        "model": "bird-mini",
        "text": "liver",
        "task": "roc",
        "score": 0.93,
        "slice": 40,
        "plane": "axial",
        "box_pixel": [10.0, 22.5, 80.0, 96.0],
    },
    "review": None,
    "warnings": [],
}
_STREAM = (
    'id: 1-1\nevent: progress\ndata: {"event": "progress", "done": 1, "total": 2, "boxes": [], '
    '"findings": []}\n\n'
    'id: 1-2\nevent: result\ndata: {"event": "result", "result": {"findings": [], "absent": '
    '["spleen"]}, "review": null, "warnings": []}\n\n'
)
EVENTS: dict[str, Any] = {
    "description": (
        "`progress` (with `done`, `total`, the new `boxes` and the `findings` so far), in a batch "
        "`item`; at last `result`, `error`, `cancelled`, or `stopped`: the server stops and the "
        "job goes on after its next start."
    ),
    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _STREAM}},
}


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class JobError(BaseModel):
    """Why a job failed."""

    error: str
    detail: str
    hint: str


class JobJson(BaseModel):
    """How far a job is."""

    model_config = _shown(_JOB)
    job_id: str
    kind: Kind
    state: State
    done: int = Field(description="slice-label pairs answered; in a batch, questions")
    total: int | None = Field(None, description="null before the first batch of slices")
    created: str = Field(description="ISO 8601, UTC, as the next two")
    started: str | None = None
    finished: str | None = None
    attempt: int = Field(description="2 and more after restarts of the server")
    ahead: int = Field(description="jobs that wait before it")
    error: JobError | None = None


class JobsJson(BaseModel):
    """Jobs, the oldest first."""

    model_config = _shown({"jobs": [_JOB]})
    jobs: list[JobJson]


class ReviewJson(BaseModel):
    """Where the review store has the findings of a grounding; ids, each in one list."""

    volume_digest: str
    added: list[str]
    updated: list[str]
    kept: list[str]
    absent: list[str] = Field(description="labels")


class ResultJson(BaseModel):
    """What a job ended with."""

    model_config = _shown(_RESULT)
    result: dict[str, Any] = Field(description="by kind; see `bird_vlm.contract`")
    review: ReviewJson | None = None
    warnings: list[str] = []
