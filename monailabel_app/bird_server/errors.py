"""Every failure as JSON `{"error": CODE, "detail": what, "hint": what to do}`.

The only place that gives HTTP status codes to errors. Knows nothing about routes.
"""

from __future__ import annotations

import errno
import logging
import math
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from bird_server.jobs.errors import (
    JobCancelledError,
    JobError,
    JobNotFinishedError,
    JournalError,
    QueueFullError,
    UnknownJobError,
    WorkerCrashedError,
)
from bird_server.learning.versions import DamagedVersionsError, UnknownVersionError
from bird_server.operations.logs import request_id
from bird_server.review.errors import (
    DamagedStoreError,
    ExportError,
    NewerStoreError,
    NothingToUndoError,
    StaleRevisionError,
    StoreBusyError,
    StoreWriteError,
    UnknownCaseError,
    UnknownFindingError,
)
from bird_server.service import known_labels
from bird_server.volumes.store_errors import (
    BadArchiveError,
    BadNameError,
    StoreFullError,
    TooLargeError,
    UnknownVolumeError,
    VolumeInUseError,
)
from bird_vlm.backend import BackendError
from bird_vlm.errors import (
    BadVolumeError,
    BirdError,
    CheckpointError,
    UnknownLabelError,
)

logger = logging.getLogger(__name__)
LABELS_IN_HINT = 100

# From the special to the general: the first class that fits gives status, code and hint.
_BIRD_ERRORS: tuple[tuple[type[BirdError], int, str, str], ...] = (
    (UnknownVolumeError, 404, "unknown_volume", "Upload it with PUT /bird/v1/volumes, ask again."),
    (BadNameError, 400, "bad_name", "Give a plain file name, such as scan.nii.gz."),
    (TooLargeError, 413, "too_large", "Crop or compress the volume, or raise the server's limit."),
    (UnknownVersionError, 404, "unknown_version", "GET /bird/v1/versions lists them."),
    (DamagedVersionsError, 503, "versions_damaged", "Ask whoever runs this server to look."),
    (UnknownFindingError, 404, "unknown_finding", "GET /bird/v1/findings lists them."),
    (UnknownCaseError, 404, "unknown_case", "Ask the model about the volume first, or draw."),
    (StaleRevisionError, 409, "stale_revision", "Look at `present` and decide anew."),
    (NothingToUndoError, 409, "nothing_to_step", "Look at the finding's history."),
    (StoreBusyError, 503, "busy", "Send the same request again in a moment."),
    (StoreWriteError, 507, "store_write", "Ask whoever runs this server to make room."),
    (DamagedStoreError, 503, "store_damaged", "Ask whoever runs this server to restart it."),
    (NewerStoreError, 503, "store_newer", "Ask whoever runs this server to update it."),
    (ExportError, 422, "export_failed", "See the detail; another format may do."),
    (BadArchiveError, 422, "bad_archive", "Zip the files of one DICOM series, without a password."),
    (StoreFullError, 507, "store_full", "Delete volumes, or ask who runs this server for room."),
    (VolumeInUseError, 409, "volume_in_use", "Cancel its jobs first, or wait for their end."),
    (UnknownJobError, 404, "unknown_job", "GET /bird/v1/jobs lists those that are kept."),
    (QueueFullError, 429, "busy", "Try again after the seconds of the header Retry-After."),
    (JobNotFinishedError, 409, "not_finished", "Wait for the last event of the job."),
    (JobCancelledError, 409, "cancelled", "Submit the question again, if it still matters."),
    (JournalError, 507, "disk_full", "Ask who runs this server to free some space."),
    (WorkerCrashedError, 500, "worker_crashed", "Submit the question again; please report it."),
    (JobError, 503, "interrupted", "Submit the question again when the server has started."),
    (BadVolumeError, 422, "bad_volume", "Send one 3D volume or 2D image that opens elsewhere."),
    (UnknownLabelError, 422, "unknown_label", "Ask for a label that this model knows."),
    (BackendError, 503, "model_unavailable", "Ask whoever runs this server to check --backend."),
    (CheckpointError, 503, "model_unavailable", "Ask whoever runs this server to check --model."),
    (BirdError, 422, "bad_request", "Correct the named argument and send the request again."),
)
_HTTP_ERRORS: dict[int, tuple[str, str]] = {
    400: ("bad_request", "Correct the request and send it again."),
    401: ("unauthorized", "Send the header 'Authorization: Bearer TOKEN'."),
    403: ("forbidden", "This server does not allow that."),
    404: ("not_found", "GET /docs lists the routes, GET /info/ the models."),
    405: ("method_not_allowed", "GET /docs lists the routes and their methods."),
    413: ("too_large", "Send less, or raise the server's limit."),
    422: ("bad_request", "Correct the named argument and send the request again."),
    503: ("unavailable", "Try again in a while."),
}


@dataclass(frozen=True)
class Problem:
    """One failure, ready to be sent."""

    status: int  # HTTP status code
    error: str  # code for programs
    detail: str  # what happened, for people
    hint: str  # what to do next
    more: dict[str, Any] = field(default_factory=dict)  # what programs need besides, as JSON
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        return {"error": self.error, "detail": self.detail, "hint": self.hint, **self.more}

    def response(self) -> JSONResponse:
        challenge = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return JSONResponse(self.body(), self.status, challenge | self.headers)


class ApiError(HTTPException):
    """A refusal with its own code and hint; clean JSON from stock MONAI Label routes too."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        hint: str,
        more: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.problem = Problem(status, code, detail, hint, more or {}, headers or {})


def problem_of(error: Exception) -> Problem:
    """What to tell the client about `error`; the text of unforeseen errors stays in the log."""
    if isinstance(error, ApiError):
        return error.problem
    if isinstance(error, BirdError):
        return _bird_problem(error)
    if isinstance(error, HTTPException):
        code = "server_error" if error.status_code >= 500 else "bad_request"
        code, hint = _HTTP_ERRORS.get(error.status_code, (code, "See the detail."))
        return Problem(error.status_code, code, str(error.detail), hint)
    if isinstance(error, RequestValidationError):
        return Problem(422, "bad_request", _validation_detail(error), _HTTP_ERRORS[422][1])
    if isinstance(error, ClientDisconnect):
        return Problem(400, "disconnected", "the client closed the connection", "Send it again.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(507, "disk_full", "the server's disk is full", "Ask who runs this server.")
    return Problem(
        500,
        "server_error",
        f"the server failed in request {request_id.get()}",
        "The server's log tells why under this number; please report it.",
    )


def answer_as_json(app: FastAPI) -> None:
    """Makes `app` answer every failure of any route as JSON."""
    for kind in (BirdError, HTTPException, RequestValidationError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _handle)


def _handle(_request: Request, error: Exception) -> JSONResponse:
    return problem_of(error).response()


def _bird_problem(error: BirdError) -> Problem:
    status, code, hint = next(row[1:] for row in _BIRD_ERRORS if isinstance(error, row[0]))
    if isinstance(error, UnknownLabelError):
        hint = f"This model knows: {', '.join(known_labels()[:LABELS_IN_HINT])}."
    return Problem(status, code, str(error), hint, _more(error), _headers(error))


def _more(error: BirdError) -> dict[str, Any]:
    """A refused change brings the present state: `present`, where the error has it."""
    present = getattr(error, "present", None)
    return {} if present is None else {"present": present}


def _headers(error: BirdError) -> dict[str, str]:
    """When to try again, where the error knows: `retry_after_s`."""
    seconds = getattr(error, "retry_after_s", None)
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}


def _validation_detail(error: RequestValidationError) -> str:
    """The first few mistakes, each as `place: message`."""
    mistakes = [
        f"{'.'.join(str(part) for part in mistake['loc'][1:]) or 'body'}: {mistake['msg']}"
        for mistake in error.errors()[:5]
    ]
    return "; ".join(mistakes)
